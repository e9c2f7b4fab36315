//! MQTT over TLS with a certificate made here.

use std::{net::SocketAddr, path::Path, sync::Arc};

use headend::{HeadendConfig, HeadendError, Outcome, TlsListen};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, crypto,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

use crate::support::*;

fn write_certificate(dir: &Path) -> TlsListen {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let files = TlsListen {
        listen: ([127, 0, 0, 1], 0).into(),
        certificates: dir.join("certificate.pem"),
        key: dir.join("key.pem"),
    };
    std::fs::write(&files.certificates, made.cert.pem()).expect("written");
    std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("written");
    files
}

async fn secure(server: &Server, certificates: &Path, version: u8) -> Client<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(certificates).expect("a file") {
        roots.add(certificate.expect("a certificate")).expect("added");
    }
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let address: SocketAddr = server.headend.mqtts_addr().expect("TLS");
    let stream = TcpStream::connect(address).await.expect("connects");
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("handshake");
    Client::new(stream, version)
}

#[tokio::test]
async fn a_meter_reports_over_tls() {
    let dir = tempfile::tempdir().expect("a directory");
    let files = write_certificate(dir.path());
    let certificates = files.certificates.clone();
    let mut server = server_with(|config: &mut HeadendConfig| config.mqtts = Some(files)).await;
    for version in [4, 5] {
        let mut client = secure(&server, &certificates, version).await;
        client.log_on(1, "client").await;
        for id in 1..=100 {
            client.publish(&now_frame(meter(1), id.into()), id).await;
        }
        server.store(100, Outcome::Stored).await;
        for id in 1..=100 {
            assert_eq!(client.packet().await.id(), id);
        }
    }
}

#[tokio::test]
async fn who_speaks_no_tls_is_refused_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let files = write_certificate(dir.path());
    let server = server_with(|config| config.mqtts = Some(files)).await;
    let address = server.headend.mqtts_addr().expect("TLS");
    let mut client = Client::new(TcpStream::connect(address).await.expect("connects"), 4);
    client.write(&Connect::of(1).packet(4)).await;
    // an alert or nothing, then the end
    while client.next().await.is_some() {}
    let counters = server.headend.counters();
    assert_eq!((counters.refused_tls, counters.accepted), (1, 0));
}

#[tokio::test]
async fn bad_files_and_busy_addresses_are_explained() {
    let dir = tempfile::tempdir().expect("a directory");
    let files = write_certificate(dir.path());
    let other = tempfile::tempdir().expect("a directory");
    let mismatched = TlsListen { key: write_certificate(other.path()).key, ..files.clone() };
    let missing = TlsListen { key: dir.path().join("nowhere.pem"), ..files.clone() };
    let empty = TlsListen { certificates: files.key.clone(), ..files.clone() };
    for files in [mismatched, missing, empty] {
        let config = HeadendConfig { mqtt: None, mqtts: Some(files), ..HeadendConfig::default() };
        let error = start(config).await.err().expect("refused");
        assert!(matches!(error, HeadendError::Tls { .. }), "{error}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let config = HeadendConfig { mqtt: taken.local_addr().ok(), ..HeadendConfig::default() };
    let error = start(config).await.err().expect("refused");
    assert!(error.to_string().contains("choose another address or port"), "{error}");
}

async fn start(config: HeadendConfig) -> Result<headend::Headend, HeadendError> {
    let (sink, _batches) = tokio::sync::mpsc::channel(1);
    headend::start(config, Arc::default(), Arc::new(|| NOW), sink).await
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let files = write_certificate(dir.path());
    let path = files.certificates.clone();
    let server = server_with(|config: &mut HeadendConfig| config.mqtts = Some(files)).await;
    let certificates = server.headend.certificates().expect("TLS").clone();
    assert!(!certificates.have_changed());
    let mut before = secure(&server, &path, 4).await;
    before.log_on(1, "before").await;

    std::fs::write(dir.path().join("key.pem"), "not a key").expect("written");
    assert!(certificates.have_changed());
    certificates.reload().expect_err("a broken file is refused");
    assert!(!certificates.have_changed(), "and not read over and over");
    let mut still = secure(&server, &path, 4).await;
    still.log_on(2, "still").await;

    write_certificate(dir.path());
    assert!(certificates.have_changed());
    certificates.reload().expect("reads");
    // trusts the new certificate only
    let mut after = secure(&server, &path, 4).await;
    after.log_on(3, "after").await;
    before.expect_silence().await;
}
