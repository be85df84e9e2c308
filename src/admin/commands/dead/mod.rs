//! `dead list|show|export` read pages; `dead redrive` and `dead drop` change something.

mod drop;
mod page;
mod redrive;

pub use drop::{DropAnswer, DropDead};
pub use page::{GetCompleteDead, GetDead};
pub use redrive::{PreviewRedrive, RedriveCost, RedriveDead};
