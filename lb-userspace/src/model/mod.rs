//! The nouns: what a provider observes, as plain data. No IO, no async.

mod container;
mod gate;
mod group;
mod host;
mod network;
mod observed;
mod policy;
mod publish;

pub use container::{
    Attachment, Container, ContainerId, Elsewhere, Link, Linked, Netns, PortRange, Protocol,
    PublishedPorts, Publishing, RunState,
};
pub use gate::Gate;
pub use group::{Group, Member, MemberState};
pub use host::{Host, HostInterface, HostInterfaceKind};
pub use network::{GatewayMode, Network, NetworkId, NetworkPolicy};
pub use observed::{Arriving, Notice, Observed};
pub use policy::{EndpointMode, LabelPolicy, Policy, PolicyError, label};
pub use publish::PublishLabel;
