//! A server that speaks TLS with a certificate of its owner's, and who trusts it.

use std::{fs, net::TcpListener};

use rustix::process::Signal;

use crate::support::{Called, Running, User, called};

const PASSWORD: &str = "correct horse battery\n";

struct Site {
    user: User,
    url: String,
}

impl Site {
    fn tell(&self, args: &[&str], lines: &str) -> Called {
        let file = self.user.path("stdin");
        fs::write(&file, lines).unwrap();
        let mut command = self.user.command(args);
        called(
            command
                .env("PIPE_DATA_DIR", self.user.path("server"))
                .stdin(fs::File::open(&file).unwrap()),
        )
    }

    /// A new certificate; where it is.
    fn certify(&self) -> String {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(self.user.path("tls.key"), made.signing_key.serialize_pem()).unwrap();
        fs::write(self.user.path("tls.crt"), made.cert.pem()).unwrap();
        self.user.path("tls.crt").display().to_string()
    }

    fn serve(&self, port: u16) -> Running {
        let (data, config) = (self.user.path("server"), self.user.path("config.toml"));
        let mut command =
            self.user
                .command(&["server", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"]);
        Running::start(command.arg(data).arg("--config").arg(config))
    }
}

fn stop(server: Running) {
    server.signal(Signal::TERM);
    let (code, said) = server.end();
    assert_eq!(code, 0, "{said}");
}

#[test]
fn a_certificate_is_trusted_by_whom_was_told_and_read_again() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("https://localhost:{port}");
    let site = Site {
        user: User::new(),
        url,
    };
    fs::write(site.user.path("config.toml"), "").unwrap();
    let mut plain = site.serve(port);
    plain.wait_for("page");
    let add = ["user", "add", "ann", "--role", "viewer", "--password", "--server"];
    let address = format!("http://127.0.0.1:{port}");
    site.tell(&[&add[..], &[&address]].concat(), PASSWORD).expect(0);
    stop(plain);

    let certificate = site.certify();
    let key = site.user.path("tls.key").display().to_string();
    let table = format!("[tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n");
    let config = format!("url = \"{}\"\n{table}", site.url);
    fs::write(site.user.path("config.toml"), config).unwrap();
    let mut server = site.serve(port);
    assert!(server.wait_for("page").contains(&site.url));
    let login = ["login", &site.url, "--name", "ann"];
    let strange = site.tell(&login, PASSWORD).expect(4);
    assert!(strange.err.contains("--ca"), "{}", strange.err);
    site.tell(&[&login[..], &["--ca", &certificate]].concat(), PASSWORD)
        .expect(0);
    let me = site.tell(&["user"], "").expect(0);
    assert_eq!(me.out, "ann  viewer\n", "the login remembers whom it trusts");

    let other = site.certify();
    server.signal(Signal::HUP);
    server.wait_for("the certificate was read again");
    site.tell(&["user"], "").expect(4);
    site.tell(&[&login[..], &["--ca", &other]].concat(), PASSWORD)
        .expect(0);
    fs::write(&key, "none").unwrap();
    server.signal(Signal::HUP);
    server.wait_for("the certificate stays as it was");
    site.tell(&["user"], "").expect(0);
    stop(server);
    let broken = site.serve(port).end();
    assert!(broken.0 == 2 && broken.1.contains("tls.key"), "{}", broken.1);
}
