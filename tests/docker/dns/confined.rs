//! A veer without CAP_SYS_ADMIN, which enters no namespace.

use std::collections::BTreeSet;

use lb_userspace::netns::tells_cookies;
use veer_tests::daemon::Daemon;
use veer_tests::deadline::eventually;
use veer_tests::dns::A;

use super::asking::{ASKED, ask};
use super::beside::{DOCKERS, is_answered};
use crate::site::Site;
use crate::stage::{Host, again};

#[test]
fn a_veer_that_may_not_enter_namespaces_answers_on_the_host_by_itself() {
    assert!(
        tells_cookies(),
        "this kernel is older than 6.18: run with `--skip dns::confined`"
    );
    let host = Host::new();
    let daemon = Daemon::start_confined(again(&host.namespace), &host.engine.socket(), "");
    let mut site = Site { daemon, host };
    let [net, web, client] = ["confined", "web", "client"].map(|prefix| site.host.name(prefix));
    site.docker(&format!("network create --subnet 172.27.25.0/24 {net}"));
    site.web(&net, &web, "--net-alias its-alias");
    site.run(&net, &client, "");
    let inside = site.host.engine.namespace_of(&client);
    let kept_for = || ask(&inside, ASKED, &web, A).ttls;

    eventually("veer answers", || is_answered(&inside, &web));
    for name in [web.as_str(), "its-alias"] {
        assert_eq!(site.fetch(&client, name), Ok(web.clone()), "{name}");
    }
    let status = site.daemon.veer(["status"]);
    assert!(status.contains("through veths"), "{status}");
    assert!(status.contains("without CAP_SYS_ADMIN"), "{status}");
    let checked = site.daemon.try_veer(["check"]).stdout;
    let checked = String::from_utf8_lossy(&checked);
    assert!(checked.contains("CAP_SYS_ADMIN is missing"), "{checked}");

    site.daemon.killed();
    assert_eq!(kept_for(), BTreeSet::from([DOCKERS]));
    assert_eq!(
        site.fetch(&client, &web),
        Ok(web.clone()),
        "by Docker's answer"
    );
    site.daemon.returns();
    eventually("veer answers again", || is_answered(&inside, &web));
}
