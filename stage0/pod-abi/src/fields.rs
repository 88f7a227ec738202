//! Fields that older documents do not have: left out where they say nothing new, so that a
//! document of an older version is written as it was read.

/// Tells whether a field need not be written.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
