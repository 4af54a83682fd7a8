//! A node's own share is the part of the whole plan that names it.
