//! The doors of the composed server: https, proxies, who is admitted, what ends when a secret is replaced, and how it stops.

use std::{net::SocketAddr, path::Path, sync::Arc};

use gridtally::{
    config::{CertificateFiles, Config},
    server::{Server, ServerOptions},
};
use metering::{Frame, MeterId, Timestamp, frame};
use store::{NewUser, OneTime, Role};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, crypto,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

/// Longest wait for something that must come.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// An answer: status, head, body.
struct Answer(u16, String, String);

async fn start(data: &Path, change: impl FnOnce(&mut Config)) -> Result<Server, String> {
    let mut config = Config::default();
    config.http.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.mqtt.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    change(&mut config);
    let options = ServerOptions { data: data.join("data"), config, simulated_clock: false, any_port: false };
    Server::start(options).await.map_err(|e| e.to_string())
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, head: &str, body: &str) -> Answer {
    let request = format!("{head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.expect("writes");
    let mut bytes = Vec::new();
    // A TLS peer that ends without a farewell has still answered.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("an answer");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer(status, head.to_ascii_lowercase(), body.to_owned())
}

async fn plain(server: &Server, head: &str, body: &str) -> Answer {
    ask(TcpStream::connect(server.http).await.expect("connects"), head, body).await
}

async fn enrol(server: &Server, meter: &str) -> String {
    let meter = MeterId::new(meter).expect("id");
    let made = server.store.enrol(&[meter], "test", Timestamp(0)).await.expect("enrolled");
    // The server learns it from the store; ask until it does.
    let secret: String = made[0].secret.iter().map(|byte| format!("{byte:02x}")).collect();
    loop {
        let head = format!(
            "POST /api/v1/readings HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}",
            basic(meter.as_str(), &secret)
        );
        if plain(server, &head, "[]").await.0 != 401 {
            return secret;
        }
        tokio::task::yield_now().await;
    }
}

fn basic(user: &str, password: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("Basic ");
    for group in format!("{user}:{password}").as_bytes().chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            let value = usize::try_from(bits >> (18 - 6 * digit) & 63).expect("small");
            text.push(if digit > group.len() { '=' } else { char::from(DIGITS[value]) });
        }
    }
    text
}

fn reading(meter: &str, seq: u64) -> String {
    let now = frame::Now { at: Timestamp(1_796_000_000), ..frame::Now::default() };
    let meter = MeterId::new(meter).expect("id");
    serde_json::to_string(&Frame::new(meter, 1, seq, frame::Body::Now(now))).expect("json")
}

fn certificate(dir: &Path) -> CertificateFiles {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let files = CertificateFiles { certificate: dir.join("chain.pem"), key: dir.join("key.pem") };
    std::fs::write(&files.certificate, made.cert.pem()).expect("written");
    std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("written");
    files
}

async fn by_tls(server: &Server, chain: &Path, head: &str, body: &str) -> Answer {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(chain).expect("a file") {
        roots.add(certificate.expect("a certificate")).expect("added");
    }
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(server.http).await.expect("connects");
    let name = ServerName::try_from("localhost").expect("a name");
    ask(TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("handshake"), head, body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_in_before_a_simulation_begins_stays_signed_in() {
    let folder = folder();
    let options = ServerOptions {
        data: folder.path().join("data"),
        config: Config::default(),
        simulated_clock: true,
        any_port: true,
    };
    let server = Server::start(options).await.expect("starts");
    let link = OneTime::SignIn("anna".to_owned());
    let user =
        NewUser { name: "anna".to_owned(), role: Role::Operator, usage_point: None, password_hash: String::new() };
    server.store.create_user(user, "test", Timestamp(0)).await.expect("made");
    let token = server.store.create_one_time(&link, Timestamp(i64::MAX / 2)).await.expect("token");
    let head = format!("GET /sign-in?token={token} HTTP/1.1\r\nHost: localhost");
    let Answer(status, head, _) = plain(&server, &head, "").await;
    assert_eq!(status, 303, "{head}");
    let cookie =
        head.split("set-cookie: ").nth(1).and_then(|rest| rest.split(';').next()).expect("a cookie").to_owned();
    let begin = Timestamp(1_767_225_600);
    let token = server.store.create_api_token("simulator", Role::Operator, "test", begin).await.expect("token");
    let head = format!(
        "PUT /api/v1/clock HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json"
    );
    assert_eq!(plain(&server, &head, &format!("{{\"now\":{}}}", begin.0)).await.0, 200);
    let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}");
    assert_eq!(plain(&server, &head, "").await.0, 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_rest_and_readings_go_by_https() {
    let folder = folder();
    let files = certificate(folder.path());
    let chain = files.certificate.clone();
    let server = start(folder.path(), |config| config.http.tls = Some(files)).await.expect("starts");
    assert!(server.url.starts_with("https://127.0.0.1:"), "{}", server.url);
    let token = server.store.create_one_time(&OneTime::SetUp, Timestamp(i64::MAX / 2)).await.expect("token");
    let body = format!("token={token}&name=anna&password=quiet+river+stones");
    let head = "POST /setup HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded";
    let Answer(status, head, _) = by_tls(&server, &chain, head, &body).await;
    assert_eq!(status, 303, "{head}");
    assert!(head.contains("set-cookie: __host-gridtally=") && head.contains("; secure"), "{head}");
    assert!(head.contains("strict-transport-security: max-age="), "{head}");
    let meter = MeterId::new("M-1").expect("id");
    let api = server.store.create_api_token("test", Role::Operator, "test", Timestamp(0)).await.expect("token");
    let head = format!(
        "POST /api/v1/meters HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: Bearer {api}"
    );
    let enrolled = by_tls(&server, &chain, &head, &format!("{{\"meters\":[\"{meter}\"]}}")).await;
    let secret = enrolled.2.split("\"secret\":\"").nth(1).and_then(|rest| rest.get(..64)).expect("a secret").to_owned();
    let head = format!("POST /api/v1/readings HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}", basic("M-1", &secret));
    let stored = by_tls(&server, &chain, &head, &reading("M-1", 1)).await;
    assert_eq!(stored.0, 200, "{}", stored.2);
    assert_eq!(server.stop().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_beyond_the_machine_is_served_without_https() {
    let folder = folder();
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let refused = start(folder.path(), |config| config.http.listen = listen.parse().expect("an address")).await;
        let why = refused.err().expect("refused");
        assert!(why.contains("[http.tls]") && why.contains("proxies"), "{why}");
    }
    assert!(!folder.path().join("data").exists(), "nothing was opened before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_says_who_asks_and_one_rule_admits_meters() {
    let folder = folder();
    let server = start(folder.path(), |config| {
        config.http.proxies = vec!["127.0.0.1".to_owned()];
        config.http.public_url = Some("https://gridtally.example".to_owned());
    })
    .await
    .expect("starts");
    assert_eq!(server.url, "https://gridtally.example");
    let secret = enrol(&server, "M-1").await;
    let post = async |forwarded: &str, seq| {
        let own = basic("M-1", &secret);
        let head =
            format!("POST /api/v1/readings HTTP/1.1\r\nHost: gridtally.example\r\nAuthorization: {own}\r\n{forwarded}");
        plain(&server, &head, &reading("M-1", seq)).await
    };
    let http = post("X-Forwarded-For: 127.0.0.1, 192.0.2.7\r\nX-Forwarded-Proto: http", 1).await;
    assert_eq!(http.0, 403, "{}", http.2);
    assert!(http.2.contains("plain_networks"), "{}", http.2);
    let https = post("X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https", 1).await;
    assert_eq!(https.0, 200, "{}", https.2);
    let other = plain(&server, "GET /sign-in HTTP/1.1\r\nHost: evil.example", "").await;
    assert_eq!(other.0, 421, "{}", other.2);
    let page = plain(&server, "GET /sign-in HTTP/1.1\r\nHost: gridtally.example", "").await;
    assert_eq!(page.0, 200);
    assert!(page.1.contains("strict-transport-security"), "{}", page.1);
    assert_eq!(server.stop().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_addresses_are_answered_with_words_and_headers() {
    let folder = folder();
    let server = start(folder.path(), |_| {}).await.expect("starts");
    for (path, kind) in [
        ("/nonsense", "text/html"),
        ("/zones/T-1/", "text/html"),
        ("/api/v1/nonsense", "application/problem+json"),
        ("/api/v1/readings/", "application/problem+json"),
    ] {
        let Answer(status, head, body) = plain(&server, &format!("GET {path} HTTP/1.1\r\nHost: localhost"), "").await;
        assert_eq!(status, 404, "{path}");
        assert!(
            head.contains(&format!("content-type: {kind}")) && body.contains("othing at this address"),
            "{path}: {head}\n{body}"
        );
        assert!(head.contains("content-security-policy") && head.contains("nosniff"), "{path}: {head}");
    }
    let readings = plain(&server, "POST /api/v1/readings HTTP/1.1\r\nHost: localhost", "").await;
    assert!(
        readings.0 == 401 && readings.1.contains("nosniff") && readings.1.contains("www-authenticate"),
        "{}",
        readings.1
    );
    assert_eq!(server.stop().await, [""; 0]);
}

/// Logs on by MQTT 3.1.1; the connection, accepted.
async fn log_on(server: &Server, meter: &str, secret: &str) -> TcpStream {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0xc2, 0, 60];
    for text in ["client", meter, secret] {
        body.extend(u16::try_from(text.len()).expect("short").to_be_bytes());
        body.extend(text.as_bytes());
    }
    let mut packet = vec![0x10, u8::try_from(body.len()).expect("short")];
    packet.extend(body);
    let mut stream = TcpStream::connect(server.mqtt).await.expect("connects");
    stream.write_all(&packet).await.expect("writes");
    let mut answer = [0; 4];
    timeout(PATIENCE, stream.read_exact(&mut answer)).await.expect("in time").expect("an answer");
    assert_eq!(answer, [0x20, 2, 0, 0]);
    stream
}

async fn is_ended(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // An end or an error: both are over.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the end in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_or_withdrawn_secret_ends_what_it_opened() {
    let folder = folder();
    let server = start(folder.path(), |_| {}).await.expect("starts");
    let first = enrol(&server, "M-1").await;
    let mut thief = log_on(&server, "M-1", &first).await;
    let second = enrol(&server, "M-1").await;
    is_ended(&mut thief).await;
    let mut meter = log_on(&server, "M-1", &second).await;
    server.store.withdraw(MeterId::new("M-1").expect("id"), "test", Timestamp(0)).await.expect("withdrawn");
    is_ended(&mut meter).await;
    assert_eq!(server.stop().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stops_by_itself_also_with_open_connections() {
    let folder = folder();
    let server = start(folder.path(), |_| {}).await.expect("starts");
    let secret = enrol(&server, "M-1").await;
    let _meter = log_on(&server, "M-1", &secret).await;
    let _silent_meter = TcpStream::connect(server.mqtt).await.expect("connects");
    let _silent_page = TcpStream::connect(server.http).await.expect("connects");
    let mut kept = TcpStream::connect(server.http).await.expect("connects");
    kept.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("writes");
    let mut some = [0; 16];
    timeout(PATIENCE, kept.read_exact(&mut some)).await.expect("in time").expect("an answer");
    assert_eq!(server.stop().await, [""; 0], "nothing had to be ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_of_the_directory_is_answered_while_the_server_runs() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let server = start(folder.path(), |_| {}).await.expect("starts");
    let socket = folder.path().join("data/server.sock");
    let mode = std::fs::metadata(&socket).expect("a socket").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let stream = tokio::net::UnixStream::connect(&socket).await.expect("connects");
    let body = r#"{"name":"first","role":"operator"}"#;
    let head = "POST /api/v1/tokens HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";
    let made = ask(stream, head, body).await;
    assert_eq!(made.0, 201, "{}", made.2);
    let by_tcp = plain(&server, head, body).await;
    assert_eq!(by_tcp.0, 401, "only by the socket");
    assert_eq!(server.stop().await, [""; 0]);
    assert!(!socket.exists(), "it is gone with the server");
}
