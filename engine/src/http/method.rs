//! The methods that Envoy knows.

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// A request method. Names are case-sensitive; those listed are what Envoy accepts
        /// without `allow_custom_methods`.
        #[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
        pub enum Method {
            $($(#[$doc])* #[doc = concat!("`", $text, "`")] $name,)+
            /// Any other token, where custom methods are allowed. Its text is
            /// [`super::RequestHead::method_name`].
            Custom,
        }

        impl Method {
            /// The method of that name, [`Method::Custom`] for an unknown one.
            #[expect(non_upper_case_globals, reason = "a constant for each variant, of its name")]
            pub fn of(name: &[u8]) -> Self {
                $(const $name: &[u8] = $text.as_bytes();)+
                match name {
                    $($name => Self::$name,)+
                    _ => Self::Custom,
                }
            }

            /// The name as it is sent; empty for [`Method::Custom`].
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                    Self::Custom => "",
                }
            }
        }
    };
}

methods! {
    #[default]
    Get = "GET",
    Post = "POST",
    Put = "PUT",
    Head = "HEAD",
    Delete = "DELETE",
    Options = "OPTIONS",
    Patch = "PATCH",
    Connect = "CONNECT",
    Trace = "TRACE",
    Acl = "ACL",
    Bind = "BIND",
    Checkout = "CHECKOUT",
    Copy = "COPY",
    Link = "LINK",
    Lock = "LOCK",
    Merge = "MERGE",
    Mkactivity = "MKACTIVITY",
    Mkcalendar = "MKCALENDAR",
    Mkcol = "MKCOL",
    Move = "MOVE",
    Msearch = "MSEARCH",
    Notify = "NOTIFY",
    Propfind = "PROPFIND",
    Proppatch = "PROPPATCH",
    Purge = "PURGE",
    Query = "QUERY",
    Rebind = "REBIND",
    Report = "REPORT",
    Search = "SEARCH",
    Source = "SOURCE",
    Subscribe = "SUBSCRIBE",
    Unbind = "UNBIND",
    Unlink = "UNLINK",
    Unlock = "UNLOCK",
    Unsubscribe = "UNSUBSCRIBE",
}

impl Method {
    /// Whether the method is idempotent (RFC 9110 §9.2.2).
    pub const fn is_idempotent(self) -> bool {
        matches!(
            self,
            Self::Get
                | Self::Head
                | Self::Put
                | Self::Delete
                | Self::Options
                | Self::Trace
                | Self::Query
        )
    }

    /// Whether a request with this method and no body is sent with `Content-Length: 0`.
    pub(crate) const fn announces_no_body(self) -> bool {
        !matches!(self, Self::Get | Self::Head | Self::Delete | Self::Trace | Self::Connect)
    }
}
