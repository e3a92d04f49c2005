//! Compiles the routes of a connection manager that come while it serves.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

use corvoy_config::{self as config, Path, Problems};

use crate::compile::Compiler;
use crate::config_source::compile::{Resource, in_words};
use crate::request::callout;
use crate::request::filters;
use crate::request::route::{self, RouteTable};
use crate::request::service::Service;
use crate::runtime::Reader;
use crate::stats::Registry;
use crate::upstream::numbers::{Number, Uses};

impl Compiler {
    /// Compiles a `RouteConfiguration` for `service`.
    ///
    /// # Errors
    /// It cannot be used: in words.
    pub fn routes(
        &self,
        service: &Service,
        resource: &Resource,
        registry: &Registry,
    ) -> Result<RouteTable, String> {
        let config::Any::RouteConfiguration(schema) = resource.message()? else {
            let what = resource.type_name();
            return Err(format!("{what} is not a RouteConfiguration"));
        };
        let Some(secrets) = self.secrets() else {
            return Err("there is no configuration yet".to_owned());
        };
        let in_force = self.in_force();
        let clusters = in_force.clusters.values();
        let known: HashMap<&str, &Arc<Number>> =
            clusters.map(|cluster| (&*cluster.name, &cluster.number)).collect();
        //= envoy: RouteConfiguration.validate_clusters, which is false by default for routes of RDS
        let validates = schema.validate_clusters == Some(true);
        let uses = RefCell::new(Uses::default());
        let cluster = |name: &str| {
            let number = known.get(name).map(|number| Arc::clone(number));
            let number = number.or_else(|| (!validates).then(|| self.numbers().of(name)));
            uses.borrow_mut().note(name, number.as_ref());
            number.map(|number| number.index())
        };
        let (are_made, are_mirrored) = (Cell::new(false), Cell::new(false));
        let runtime = self.runtime().current();
        let filter_context = filters::compile::Context {
            registry,
            stat_prefix: service.http.prefix(),
            runtime: &Reader::new(&runtime),
            // The service makes calls and mirrors as soon as its routes may want it.
            calls: callout::compile::Context {
                cluster: &cluster,
                are_made: &are_made,
                are_mirrored: &are_mirrored,
            },
            local_cluster: &in_force.node.cluster,
            secrets,
            dns_caches: self.dns_caches(),
        };
        let needs = route::compile::Needs {
            filters: &service.filters,
            filter_context: &filter_context,
            cluster: &cluster,
        };
        let mut problems = Problems::default();
        let mut table = route::compile::route_table(schema, &needs, &Path::root(), &mut problems);
        if problems.has_errors() {
            return Err(in_words(&problems));
        }
        table.uses = uses.take();
        drop(in_force);
        self.numbers().collect();
        Ok(table)
    }
}
