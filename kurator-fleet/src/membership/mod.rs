//! How members leave.
//!
//! [`next_step`] decides, from what is known now, whether a member that is being removed is cleaned, waited for, or
//! let go of. It is pure; the controllers carry it out.

mod detach;

pub use self::detach::{
    Contact, DetachBlocked, DetachMode, DetachStep, Detaching, Remains, Tombstone, next_step,
};
