//! Access logs: a line for each request and each connection.

mod entry_type;

pub use self::entry_type::EntryType;
