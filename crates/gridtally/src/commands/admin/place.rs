//! Where administration works: on a data directory, on the server that runs on it, or on a server elsewhere by REST.
//!
//! A server listens on a socket in its data directory. Who may open that socket owns the directory, and could read and write
//! everything in it; so no token is asked for there.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::body::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use store::StoreError;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, crypto,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

use crate::{
    commands::CommandError,
    data_directory::{DataDirectory, DataDirectoryError},
    local_door,
};

/// Environment variable with a token.
const TOKEN_VARIABLE: &str = "GRIDTALLY_TOKEN";
/// Where systems keep the certificates they trust.
static SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Longest answer read.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Where to work: a data directory, or a running server.
#[derive(Debug, Args)]
pub struct PlaceArguments {
    /// Data directory on this machine; a server may be running on it
    #[arg(long, value_name = "DIR", conflicts_with = "server")]
    data: Option<PathBuf>,
    /// A running server, https://host or http://localhost:port
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// API token of that server; other programs see it in the process list: rather --token-file, or the variable GRIDTALLY_TOKEN
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// File with the API token; - reads it from standard input
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// Certificate authority to trust, PEM, instead of those of the system
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// Where to work, opened.
pub enum Place {
    /// A directory that no server has open.
    Directory(Box<DataDirectory>),
    /// A server.
    Server(AdminClient),
}

impl PlaceArguments {
    /// The data directory that is named and not there.
    pub fn directory_to_make(&self) -> Option<PathBuf> {
        self.data.clone().filter(|data| !data.join("gridtally.db").exists())
    }

    /// Opens the place.
    ///
    /// # Errors
    /// When none is named, it is not there, or no token is given for a server elsewhere; the text says what to do.
    pub async fn open(self) -> Result<Place, CommandError> {
        match (self.data, self.server) {
            (Some(data), _) => open_directory(&data).await,
            (None, Some(server)) => {
                let token = token(self.token, self.token_file.as_deref())?;
                Ok(Place::Server(AdminClient::elsewhere(&server, token, self.ca.as_deref())?))
            }
            (None, None) => Err("say where:\n  \
                --data DIR      the data directory of the server on this machine, whether it runs or not, or\n  \
                --server URL    a server elsewhere, with --token-file FILE or the variable GRIDTALLY_TOKEN\n\
                (an operator makes a token on the page Programs, or with `gridtally admin token --name … --data DIR`)"
                .into()),
        }
    }
}

/// Opens a directory of either kind; it must be there. When a server has it open, asks that server.
pub async fn open_directory(data: &Path) -> Result<Place, CommandError> {
    if !data.is_dir() {
        return Err(format!("{} is not there; `gridtally serve --data` makes a data directory", data.display()).into());
    }
    let simulation = store::Store::made_for_simulation(data).await?;
    match DataDirectory::open(data, simulation).await {
        Ok(directory) => Ok(Place::Directory(Box::new(directory))),
        Err(DataDirectoryError::Store(StoreError::Directory { path, why })) => {
            match AdminClient::beside(data).await {
                Some(client) => Ok(Place::Server(client)),
                None => Err(format!(
                    "{} cannot be used: {why}. If it is a server of an older version, stop it, or use --server URL with --token-file",
                    path.display()
                )
                .into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

fn token(given: Option<String>, file: Option<&Path>) -> Result<String, CommandError> {
    let text = match (given, file) {
        (Some(token), _) => token,
        (None, Some(path)) if path == Path::new("-") => {
            let mut text = String::new();
            std::io::stdin().take(1_024).read_to_string(&mut text)?;
            text
        }
        (None, Some(path)) => {
            std::fs::read_to_string(path).map_err(|e| format!("cannot read the token in {}: {e}", path.display()))?
        }
        (None, None) => std::env::var(TOKEN_VARIABLE).map_err(|_| {
            format!(
                "a server elsewhere asks for a token: --token-file FILE (- for standard input), or the variable {TOKEN_VARIABLE}; \
                 an operator makes one on the page Programs, or `gridtally admin token --name … --data DIR` on the server's machine"
            )
        })?,
    };
    Ok(text.trim().to_owned())
}

/// How a server is reached.
enum Road {
    /// The socket in its data directory.
    #[cfg(unix)]
    Beside(PathBuf),
    Plain(String),
    Tls(String, ServerName<'static>, TlsConnector),
}

/// Asks a server, one connection a request.
pub struct AdminClient {
    road: Road,
    token: Option<String>,
}

impl AdminClient {
    /// The server that has a data directory open; `None` when it does not answer there.
    async fn beside(data: &Path) -> Option<Self> {
        #[cfg(unix)]
        {
            let path = local_door::path(data);
            tokio::net::UnixStream::connect(&path).await.ok()?;
            Some(Self { road: Road::Beside(path), token: None })
        }
        #[cfg(not(unix))]
        {
            let _ = data;
            None
        }
    }

    fn elsewhere(server: &str, token: String, ca: Option<&Path>) -> Result<Self, CommandError> {
        let uri: hyper::Uri = server.parse().map_err(|e| format!("{server} is not an address: {e}"))?;
        let host =
            uri.host().ok_or_else(|| format!("{server} names no host: write https://host or http://localhost:port"))?;
        let authority = |port: u16| format!("{host}:{}", uri.port_u16().unwrap_or(port));
        let road = match uri.scheme_str() {
            Some("https") => {
                let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
                Road::Tls(authority(443), name, connector(ca)?)
            }
            Some("http") => Road::Plain(authority(80)),
            _ => return Err(format!("{server} begins neither with https:// nor with http://").into()),
        };
        Ok(Self { road, token: Some(token) })
    }

    /// Asks, and reads the answer as JSON (`null` when it is empty).
    ///
    /// # Errors
    /// When the server is not reached or refuses; its reason is in the text.
    pub async fn ask(&self, method: &str, path: &str, content_type: &str, body: String) -> Result<Value, CommandError> {
        match &self.road {
            #[cfg(unix)]
            Road::Beside(socket) => {
                let stream = tokio::net::UnixStream::connect(socket).await?;
                self.ask_over(stream, "localhost", (method, path, content_type, body)).await
            }
            Road::Plain(address) => {
                let stream = connect(address).await?;
                self.ask_over(stream, address, (method, path, content_type, body)).await
            }
            Road::Tls(address, name, tls) => {
                let stream = tls.connect(name.clone(), connect(address).await?).await.map_err(|e| {
                    format!("{address}: {e}; for a certificate of your own give its authority with --ca FILE")
                })?;
                self.ask_over(stream, address, (method, path, content_type, body)).await
            }
        }
    }

    /// As [`AdminClient::ask`], with a JSON body.
    ///
    /// # Errors
    /// As [`AdminClient::ask`].
    pub async fn ask_json(&self, method: &str, path: &str, body: &Value) -> Result<Value, CommandError> {
        self.ask(method, path, "application/json", body.to_string()).await
    }

    async fn ask_over<S>(
        &self,
        stream: S,
        host: &str,
        (method, path, content_type, body): (&str, &str, &str, String),
    ) -> Result<Value, CommandError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // It ends with the answer.
            let _ = connection.await;
        });
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host)
            .header(header::CONTENT_TYPE, content_type)
            .header(header::ACCEPT, "application/json");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let response = sender.send_request(request.body(Full::new(Bytes::from(body)))?).await?;
        let status = response.status();
        let bytes = http_body_util::Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await?.to_bytes();
        let answer: Value = match bytes.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&bytes).map_err(|e| format!("{method} {path}: {status}, no JSON: {e}"))?,
        };
        if status.is_success() {
            return Ok(answer);
        }
        Err(format!("the server refused ({status}): {}", answer["detail"].as_str().unwrap_or("without a reason"))
            .into())
    }
}

async fn connect(address: &str) -> Result<TcpStream, CommandError> {
    Ok(TcpStream::connect(address).await.map_err(|e| format!("{address} is not reached: {e}"))?)
}

fn connector(ca: Option<&Path>) -> Result<TlsConnector, CommandError> {
    let file =
        match ca {
            Some(file) => file,
            None => SYSTEM_ROOTS.iter().map(Path::new).find(|path| path.exists()).ok_or(
                "this system has no list of trusted certificates where it is looked for: give one with --ca FILE",
            )?,
        };
    let mut roots = RootCertStore::empty();
    let unusable = |why: String| format!("cannot use the certificates in {}: {why}", file.display());
    for certificate in CertificateDer::pem_file_iter(file).map_err(|e| unusable(e.to_string()))? {
        // One that this library does not understand is not trusted; the others are.
        let _ = roots.add(certificate.map_err(|e| unusable(e.to_string()))?);
    }
    if roots.is_empty() {
        return Err(unusable("there is none".to_owned()).into());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
