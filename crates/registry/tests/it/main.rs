//! The indices against a reference that searches the lists.

mod indices;
