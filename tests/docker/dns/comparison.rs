//! Where veer and Docker are asked the same.

use std::net::SocketAddr;
use std::sync::Arc;

use lb_userspace::netns::Namespace;
use veer_tests::deadline::eventually;
use veer_tests::dns::A;

use super::asking::{ASKED, Said, ask, dockers};
use super::server::NameServer;
use crate::site::Site;

/// Two Networks, and a client on both of them with a name server of its own.
pub(super) struct Stage {
    pub(super) site: Arc<Site>,
    pub(super) front: String,
    pub(super) back: String,
    pub(super) web: String,
    pub(super) client: Namespace,
    pub(super) docker: SocketAddr,
    pub(super) world: NameServer,
}

impl Stage {
    /// `third` is the third byte of the addresses, and no other test's.
    pub(super) fn new(third: u8) -> Self {
        let site = Site::shared();
        let name = |prefix: &str| site.host.name(prefix);
        // Docker asks Networks in the order of their names.
        let (front, back) = (name("a-front"), name("b-back"));
        let (web, server, client) = (name("web"), name("server"), name("client"));
        site.docker(&format!(
            "network create --subnet 172.27.{third}.0/25 {front}"
        ));
        site.docker(&format!(
            "network create --subnet 172.27.{third}.128/25 {back}"
        ));
        site.run(&front, &server, &format!("--ip 172.27.{third}.53"));
        let world = NameServer::start(&site.host.engine.namespace_of(&server));
        site.run(&front, &web, "-h its-host --net-alias pair");
        site.docker(&format!("network connect --alias pair {back} {web}"));
        site.run(&front, &client, &format!("--dns 172.27.{third}.53"));
        site.docker(&format!("network connect {back} {client}"));
        let client = site.host.engine.namespace_of(&client);
        let docker = dockers(&client);
        let stage = Self {
            site,
            front,
            back,
            web,
            client,
            docker,
            world,
        };
        eventually("veer knows both Networks", || {
            let full = format!("{}.{}", stage.web, stage.back);
            stage.veer(&full, A) == stage.docker(&full, A).at_any_time()
        });
        stage
    }

    pub(super) fn veer(&self, name: &str, kind: u16) -> Said {
        ask(&self.client, ASKED, name, kind).at_any_time()
    }

    pub(super) fn docker(&self, name: &str, kind: u16) -> Said {
        ask(&self.client, self.docker, name, kind)
    }

    /// Both say the same.
    #[track_caller]
    pub(super) fn agree(&self, name: &str, kind: u16) -> Said {
        let said = self.veer(name, kind);
        assert_eq!(said, self.docker(name, kind).at_any_time(), "{name} {kind}");
        said
    }
}
