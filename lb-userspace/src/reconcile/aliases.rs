//! Which Groups an attachment is in.

use std::collections::BTreeSet;

use crate::model::{Attachment, Container};

/// The attachment's aliases in lower case, each once. The container's own name is none: it
/// resolves to the container.
pub(super) fn aliases(container: &Container, attachment: &Attachment) -> BTreeSet<String> {
    let own = container.name.to_lowercase();
    let aliases = attachment.aliases.iter().map(|alias| alias.to_lowercase());
    aliases
        .filter(|alias| !alias.is_empty() && *alias != own)
        .collect()
}
