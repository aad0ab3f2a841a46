//! Real programs behind published ports, whose containers are restarted and replaced.

mod served;

use served::Served;
use veer_tests::servers::{find, postgres, run};

use crate::street::{HOST_V4, HOST_V6, OUTSIDE_V4, OUTSIDE_V6, Street};

/// What is uploaded.
const GIGABYTE: u64 = 1 << 30;

#[test]
fn nginx_is_reached_by_http_through_restarts() {
    let street = Street::shared();
    let nginx = nginx(&street, 60, "-p 8060:80");

    nginx.goes_on(&street, |street| {
        for (host, client) in [(HOST_V4, OUTSIDE_V4), ("[2001:db8:1::1]", OUTSIDE_V6)] {
            let url = format!("http://{host}:8060/");
            let words = ["-sSf", "--max-time", "20", &url];
            let seen = run(&street.outside, "usr/bin/curl", words)?;
            assert_eq!(seen, client, "{url}");
        }
        let words = ["-sSf", "--max-time", "20", "http://localhost:8060/"];
        run(&street.host.namespace, "usr/bin/curl", words)
    });
}

#[test]
fn a_gigabyte_is_uploaded_by_tls_while_other_containers_are_restarted() {
    let street = Street::shared();
    let nginx = nginx(&street, 61, "-p 8061:443");
    let neighbour = street.run(&nginx.network, "-p 8062:80");
    let file = nginx.folder().join("file");
    let zeros = std::fs::File::create(&file).unwrap();
    zeros.set_len(GIGABYTE).unwrap();
    let upload = |place: &str| {
        let (file, url) = (
            file.display().to_string(),
            format!("https://{HOST_V4}:8061/{place}"),
        );
        let words = ["-sSfk", "--max-time", "100", "-T", &file, &url];
        run(&street.outside, "usr/bin/curl", words)
    };
    nginx.answers(&street, "TLS", || {
        let url = format!("https://{HOST_V4}:8061/");
        let words = ["-sSk", "--max-time", "5", &url];
        run(&street.outside, "usr/bin/curl", words)
    });

    std::thread::scope(|scope| {
        let upload = scope.spawn(|| upload("one"));
        while !upload.is_finished() {
            street.docker(&format!("restart -t 0 {}", neighbour.name));
        }
        upload.join().unwrap().unwrap();
    });

    let uploaded = std::fs::metadata(nginx.folder().join("one")).unwrap();
    assert_eq!(uploaded.len(), GIGABYTE);
}

/// nginx, whose pages tell the client's address, and which takes files by TLS into its folder.
fn nginx(street: &Street, number: u8, ports: &str) -> Served {
    let script = "exec /programs/usr/sbin/nginx -p /tmp -c /own/nginx.conf";
    let nginx = Served::new(street, number, ports, script);
    let (key, certificate) = (
        nginx.folder().join("key"),
        nginx.folder().join("certificate"),
    );
    let words =
        "req -x509 -newkey rsa:2048 -nodes -subj /CN=veer -days 30 -config /dev/null -keyout";
    let (key, certificate) = (key.display().to_string(), certificate.display().to_string());
    let words = words
        .split(' ')
        .chain([key.as_str(), "-out", certificate.as_str()]);
    run(&street.outside, "usr/bin/openssl", words).unwrap();
    std::fs::write(nginx.folder().join("nginx.conf"), NGINX).unwrap();
    find(&["usr/sbin/nginx"]);
    nginx.starts(street);
    nginx
}

const NGINX: &str = "
user root root;
daemon off;
master_process off;
pid /tmp/nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    client_max_body_size 0;
    client_body_temp_path /own/body;
    proxy_temp_path /tmp/proxy;
    fastcgi_temp_path /tmp/fastcgi;
    uwsgi_temp_path /tmp/uwsgi;
    scgi_temp_path /tmp/scgi;
    server {
        listen [::]:80 ipv6only=off;
        location / { return 200 $remote; }
    }
    server {
        listen [::]:443 ipv6only=off ssl;
        ssl_certificate /own/certificate;
        ssl_certificate_key /own/key;
        location / { root /own; dav_methods PUT; }
    }
    # IPv4 clients of a socket for both families have mapped addresses.
    map $remote_addr $remote { ~^::ffff:(?<v4>.*) $v4; default $remote_addr; }
}
";

#[test]
fn postgresql_keeps_its_rows_and_sees_its_clients_through_restarts() {
    let street = Street::shared();
    let bin = postgres();
    let script = format!(
        "[ -f /own/data/PG_VERSION ] || {{ \
           /programs/{bin}/initdb -D /own/data -U test --no-sync --no-locale > /own/log && \
           echo 'host all all all trust' >> /own/data/pg_hba.conf; }} && \
         exec /programs/{bin}/postgres -D /own/data -c listen_addresses=* -c fsync=off \
           -c unix_socket_directories=/own"
    );
    let server = Served::new(&street, 62, "-p 13306:5432 --user 65534", &script);
    server.starts(&street);
    let ask = |host: &str, text: &str| {
        let words = [
            "-h", host, "-p", "13306", "-U", "test", "-d", "postgres", "-Atqc", text,
        ];
        run(&street.outside, &format!("{bin}/psql"), words)
    };
    server.answers(&street, "PostgreSQL", || ask(HOST_V4, "select 1"));
    ask(
        HOST_V4,
        "create table t as select generate_series(1, 20000) as n",
    )
    .unwrap();

    server.goes_on(&street, |_| {
        let seen = ask(HOST_V6, "select host(inet_client_addr())")?;
        assert_eq!(seen, OUTSIDE_V6);
        let sum = ask(HOST_V4, "select count(*) || ' ' || sum(n) from t")?;
        assert_eq!(sum, "20000 200010000");
        let rows = ask(HOST_V4, "select n from t order by n")?;
        assert_eq!(rows.lines().count(), 20_000);
        Ok(rows)
    });
}

#[test]
fn redis_answers_and_sees_its_clients_through_restarts() {
    let street = Street::shared();
    let script = "exec /programs/usr/bin/redis-server --port 6379 --protected-mode no \
                  --bind '*' '-::*' --save '' --dir /tmp";
    let redis = Served::new(&street, 63, "-p 6379:6379", script);
    redis.starts(&street);

    redis.goes_on(&street, |street| {
        let cli = |host: &str, words: &[&str]| {
            let words = ["-h", host, "-p", "6379"]
                .into_iter()
                .chain(words.iter().copied());
            run(&street.outside, "usr/bin/redis-cli", words)
        };
        let client = cli(HOST_V4, &["client", "info"])?;
        // It reports that it cannot connect without failing.
        if !client.contains("addr=") {
            return Err(client);
        }
        assert!(client.contains(&format!(" addr={OUTSIDE_V4}:")), "{client}");
        let large = "x".repeat(100_000);
        cli(HOST_V6, &["set", "large", &large])?;
        let found = cli(HOST_V4, &["get", "large"])?;
        assert_eq!(found.len(), large.len());
        let words = "-h 192.0.2.1 -p 6379 -q -n 2000 -c 20 -t ping,set,get".split(' ');
        run(&street.outside, "usr/bin/redis-benchmark", words)
    });
}

#[test]
fn tftp_whose_answers_come_from_another_port_works_through_restarts() {
    let street = Street::shared();
    let script = "exec /programs/usr/sbin/in.tftpd -L -4 -u root -a 0.0.0.0:69 -s /own";
    let tftp = Served::new(&street, 64, "-p 8069:69/udp", script);
    let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_be_bytes).collect();
    std::fs::write(tftp.folder().join("file"), &content).unwrap();
    tftp.starts(&street);

    tftp.goes_on(&street, |street| {
        let copy = tftp.folder().join("copy");
        let words = [
            "60", "busybox", "tftp", "-g", "-b", "1400", "-r", "file", "-l",
        ];
        let mut client = std::process::Command::new("timeout");
        client.args(words).arg(&copy).args([HOST_V4, "8069"]);
        let output = street.outside.run(|| client.output()).unwrap().unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        assert!(
            std::fs::read(copy).unwrap() == content,
            "what came is what was sent"
        );
        Ok(String::new())
    });
}
