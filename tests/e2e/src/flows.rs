//! What it takes to run any flow of the product, without knowing it: clouds in which its rpc finds
//! what it needs, the request by its descriptor, and a script of what goes wrong on the way.

mod dump;
mod request;
mod script;
mod world;

pub use dump::Dump;
pub use request::Known;
pub use script::{Deed, Rule, Script, Visit};
pub use world::{Kind, World};
