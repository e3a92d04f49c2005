//! The sets of stats that several components write. A set of one component is declared there.

mod cluster;
mod http;
mod listener;
mod server;
mod subscription;
mod tls;

pub use cluster::*;
pub use http::*;
pub use listener::*;
pub use server::*;
pub use subscription::*;
pub use tls::*;

/// Sets with a counter for each class of responses.
macro_rules! count_classes {
    ($($set:ident)*) => {$(
        impl $set {
            /// Counts a response that was sent in full, under its class.
            #[inline]
            pub fn record_response(&self, status: u16) {
                self.downstream_rq_completed.inc();
                match status {
                    100..200 => self.downstream_rq_1xx.inc(),
                    200..300 => self.downstream_rq_2xx.inc(),
                    300..400 => self.downstream_rq_3xx.inc(),
                    400..500 => self.downstream_rq_4xx.inc(),
                    500..600 => self.downstream_rq_5xx.inc(),
                    _ => {}
                }
            }
        }
    )*};
}

count_classes! { HttpStats ListenerHttpStats }
