//! Pods in virtual machines of their own, inside a machine whose processor can have guests: with a
//! stock kernel, end to end.

mod budget;
mod kernel;
mod kvm;
mod parity;
mod refused;
mod sealed;
mod wreckers;
