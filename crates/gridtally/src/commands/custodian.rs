//! `gridtally custodian`: the role that holds mask keys and never a reading.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Args;
use tokio::net::TcpListener;

use super::CommandError;
use crate::custodian::{
    Service,
    door::{TlsFiles, acceptor, serve},
};

#[derive(Debug, Args)]
pub struct CustodianArguments {
    /// The custodian's own directory, with policy.toml in it
    #[arg(long)]
    data: PathBuf,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Its certificate chain, PEM; default: tls/certificate.pem in the directory
    #[arg(long)]
    certificate: Option<PathBuf>,
    /// Its key, PEM; default: tls/key.pem
    #[arg(long)]
    key: Option<PathBuf>,
    /// Authority of the certificates that are let in, PEM; default: tls/clients.pem
    #[arg(long)]
    clients: Option<PathBuf>,
}

/// Runs it.
pub async fn run(arguments: CustodianArguments) -> Result<ExitCode, CommandError> {
    let of = |given: Option<PathBuf>, name: &str| given.unwrap_or_else(|| arguments.data.join("tls").join(name));
    let files = TlsFiles {
        certificate: of(arguments.certificate.clone(), "certificate.pem"),
        key: of(arguments.key.clone(), "key.pem"),
        client_authority: of(arguments.clients.clone(), "clients.pem"),
    };
    let tls = acceptor(&files)?;
    let service = Service::open(&arguments.data)?;
    let listener = TcpListener::bind(arguments.listen)
        .await
        .map_err(|e| format!("cannot listen on {}: {e}; choose another with --listen", arguments.listen))?;
    let trust = service.custodian().policy().trust;
    eprintln!("custodian ({trust:?} model) on {}, log key {}", listener.local_addr()?, service.log_public_key());
    serve(service, listener, tls).await?;
    Ok(ExitCode::SUCCESS)
}
