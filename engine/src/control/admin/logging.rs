//! `/logging`: shows and changes the levels of the loggers.

use crate::control::admin::query::Query;
use crate::control::admin::reply::Reply;
use crate::control::admin::{Admin, Effect, Endpoint, LogLevel, parameter};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/logging",
    effect: Effect::Changes,
    help: "query/change logging levels",
    parameters: &[
        parameter(
            "paths",
            "Change multiple logging levels by setting to \
             <logger_name1>:<desired_level1>,<logger_name2>:<desired_level2>.",
        ),
        parameter(
            "level",
            "desired logging level, this will change all loggers's level; One of (, trace, debug, \
             info, warning, error, critical, off)",
        ),
    ],
    answer: |admin, query| match changes(admin, query) {
        Ok(changes) => {
            for (logger, level) in changes {
                admin.server.set_log_level(logger, level);
            }
            Reply::text(active_loggers(admin))
        }
        Err(error) => {
            Reply::bad_request(format!("error: {error}\n\n{USAGE}{}\n", active_loggers(admin)))
        }
    },
};

/// The changes to make: if one of them is invalid, none is made.
fn changes<'a>(
    admin: &Admin,
    query: &'a Query,
) -> Result<Vec<(Option<&'a str>, LogLevel)>, &'static str> {
    let level = |name: &str| name.parse().map_err(|()| "unknown logger level");
    let loggers = admin.server.loggers();
    let known = |name: &'a str| match loggers.iter().any(|(logger, _)| logger == name) {
        true => Ok(Some(name)),
        false => Err("unknown logger name"),
    };
    let mut parameters = query.parameters();
    match (parameters.next(), parameters.next()) {
        (None, _) => Ok(Vec::new()),
        (Some(_), Some(_)) => Err("invalid number of parameters"),
        // As in Envoy, an empty value changes nothing.
        (Some((_, "")), None) => Ok(Vec::new()),
        (Some(("level", name)), None) => Ok(vec![(None, level(name)?)]),
        (Some(("paths", paths)), None) => paths
            .split(',')
            .map(|path| {
                let (logger, name) = path
                    .split_once(':')
                    .filter(|(logger, name)| !logger.is_empty() && !name.is_empty())
                    .ok_or("empty logger name or empty logger level")?;
                let level = level(name)?;
                Ok((known(logger)?, level))
            })
            .collect(),
        (Some((logger, name)), None) => {
            let level = level(name)?;
            Ok(vec![(known(logger)?, level)])
        }
    }
}

fn active_loggers(admin: &Admin) -> String {
    let loggers = admin.server.loggers();
    let lines = loggers.iter().map(|(name, level)| format!("  {name}: {}\n", level.name()));
    format!("active loggers:\n{}\n", lines.collect::<String>())
}

const USAGE: &str = "usage: /logging?<name>=<level> (change single level)\n\
     usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n\
     usage: /logging?level=<level> (change all levels)\n\
     levels: trace debug info warning error critical off \n";
