//! M-Bus (EN 13757-3, -4, -7): records of wired and wireless meters.

mod apator;
pub mod header;
pub mod protection;
pub mod quantity;
pub mod record;
pub mod telegram;
pub mod vif;

pub use record::Record;
pub use telegram::{Formats, Telegram};
