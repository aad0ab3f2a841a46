//! What stands on the bridge without veer: the ground that the other tests stand on.

use veer_tests::host::Host;
use veer_tests::station::Family;

#[test]
fn stations_reach_each_other() {
    let host = Host::new();
    let network = host.network();
    let [client, server] = host.stations(&network, ["client", "server"]);

    for family in Family::BOTH {
        let _tcp = server.serves_tcp(family, 80);
        let _udp = server.serves_udp(family, 53);

        let tcp = client.ask_tcp((server.address(family), 80)).unwrap();
        let udp = client.ask_udp((server.address(family), 53)).unwrap();

        assert_eq!(
            (tcp.server.as_str(), udp.server.as_str()),
            ("server", "server")
        );
        assert_eq!(tcp.client.ip(), client.address(family));
    }
}
