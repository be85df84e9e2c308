//! An answer that comes in pages.

/// One page of an answer that has several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Where the next page starts; `None` after the last ("" from AWS means the same).
    pub next: Option<String>,
}
