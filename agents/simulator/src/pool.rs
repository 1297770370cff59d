//! What a simulated host has beside virtual machines: a storage pool with cached images, and
//! bridges.

use serde::{Deserialize, Serialize};

use cairn_agent_protocol::{
    CacheImage, CommandError, CommandErrorCode, DeleteBridge, EnsureBridge, ImageFacts, NicSpec,
    PoolSpace,
};
use cairn_types::Uuid;

use crate::HostState;

/// Nothing is fetched, so every image is this large.
pub(crate) const IMAGE_BYTES: u64 = 64 << 20;

/// A cached image of a simulated host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageState {
    /// The image.
    pub image: Uuid,
    /// SHA-256 of the file.
    pub sha256: String,
}

impl HostState {
    /// The folder is not kept apart: a simulated host has one pool, whatever its path.
    pub(crate) fn pool_space(&self) -> PoolSpace {
        PoolSpace {
            total_bytes: self.size.pool_bytes,
            available_bytes: self.size.pool_bytes,
        }
    }

    pub(crate) fn cache_image(&mut self, command: CacheImage) -> Result<ImageFacts, CommandError> {
        let CacheImage {
            image,
            sha256,
            path,
            source: _,
        } = command;
        let made = ImageState { image, sha256 };
        let there = self.images.entry(path).or_insert_with(|| made.clone());
        if *there == made {
            return Ok(ImageFacts {
                size_bytes: IMAGE_BYTES,
            });
        }
        let text = format!("another image is there: {there:?}");
        Err(CommandError::new(CommandErrorCode::Invalid, text))
    }

    pub(crate) fn ensure_bridge(&mut self, command: EnsureBridge) -> Result<(), CommandError> {
        let EnsureBridge { bridge, interface } = command;
        let there = self.bridges.entry(bridge).or_insert(interface.clone());
        if there.is_empty() {
            there.clone_from(&interface);
        }
        if *there == interface {
            return Ok(());
        }
        let text = format!("the bridge is there over {there}");
        Err(CommandError::new(CommandErrorCode::Invalid, text))
    }

    pub(crate) fn delete_bridge(&mut self, command: &DeleteBridge) -> Result<(), CommandError> {
        let plugged = |nics: &[NicSpec]| nics.iter().any(|nic| nic.bridge == command.bridge);
        let mut running = self.vms.iter().filter(|(_, vm)| vm.pid.is_some());
        if let Some((vm, _)) = running.find(|(_, vm)| plugged(&vm.nics)) {
            let text = format!("virtual machine {vm} is plugged into {}", command.bridge);
            return Err(CommandError::failed(text));
        }
        self.bridges.remove(&command.bridge);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_agent_protocol::{Secret, SftpFile};
    use cairn_types::HostUuid;

    #[test]
    fn images_and_bridges_are_made_once_and_a_contradiction_is_refused() {
        let mut host = HostState::new(HostUuid::generate());
        let mut cache = CacheImage {
            image: Uuid::new_v4(),
            source: SftpFile {
                address: "images.example:22".to_owned(),
                username: "cairn".to_owned(),
                host_key: "ssh-ed25519 AAAA".to_owned(),
                private_key: Secret::new("key".to_owned()),
                path: "/srv/a".to_owned(),
            },
            sha256: "ab".repeat(32),
            path: "/pool/images/a".to_owned(),
        };
        let facts = host.cache_image(cache.clone()).unwrap();
        assert_eq!(host.cache_image(cache.clone()).unwrap(), facts);
        cache.image = Uuid::new_v4();
        let refused = host.cache_image(cache).unwrap_err();
        assert_eq!(refused.code, CommandErrorCode::Invalid);

        let ensure = |bridge: &str, interface: &str| EnsureBridge {
            bridge: bridge.to_owned(),
            interface: interface.to_owned(),
        };
        host.ensure_bridge(ensure("br_eth0", "eth0")).unwrap();
        host.ensure_bridge(ensure("br_eth0", "eth0")).unwrap();
        let refused = host.ensure_bridge(ensure("br_eth0", "eth1")).unwrap_err();
        assert_eq!(refused.code, CommandErrorCode::Invalid);
        let delete = DeleteBridge {
            bridge: "br_eth0".to_owned(),
        };
        host.delete_bridge(&delete).unwrap();
        host.delete_bridge(&delete).unwrap();
        assert!(host.bridges.is_empty());
    }
}
