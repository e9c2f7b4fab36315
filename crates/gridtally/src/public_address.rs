//! The address by which people reach the server, the names it answers to, and the rule that nobody beyond this machine is served
//! without https.

use std::net::SocketAddr;

use axum::http::Uri;

use crate::config::HttpConfig;

/// How people reach the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicAddress {
    /// What a browser opens: scheme, host and port, without a slash at the end.
    pub url: String,
    /// Names in `Host` that are served, lower case, without a port.
    pub hosts: Vec<String>,
}

/// Why the server must not be reached in the way that is configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Passwords would go over the network in the clear.
    #[error(
        "[http] listen = {0} is reachable from other machines, and without https passwords, tokens and secrets would cross the \
         network readable: give a certificate in [http.tls], or, when a proxy that speaks https stands before this server, name its \
         address in [http] proxies; for meters that cannot speak TLS there is [http] readings_listen"
    )]
    PlainOffLoopback(SocketAddr),
    /// Nobody can know the address that people use.
    #[error("[http] listen = {0} needs public_url = \"https://…\": the address by which people reach this server")]
    NoPublicUrl(SocketAddr),
    /// Not an address of a server.
    #[error(
        "[http] public_url = {0:?} is not understood: write https://, the name and, if it is not 443, the port, and no path"
    )]
    PublicUrl(String),
    /// People would get addresses that do not work, or cookies that are not kept.
    #[error("[http] public_url = {0:?} begins with http, but the server is reached by https")]
    Scheme(String),
}

impl PublicAddress {
    /// Checks the settings against the address that is listened on.
    ///
    /// # Errors
    /// When people or meters of other machines would be served without https, or the address is not understood.
    pub fn of(config: &HttpConfig, listen: SocketAddr) -> Result<Self, AddressError> {
        let is_local = listen.ip().to_canonical().is_loopback();
        let is_encrypted = config.tls.is_some() || !config.proxies.is_empty();
        if !is_local && !is_encrypted {
            return Err(AddressError::PlainOffLoopback(listen));
        }
        let mut hosts = Vec::new();
        if is_local || listen.ip().is_unspecified() {
            hosts.extend(["localhost", "127.0.0.1", "[::1]"].map(str::to_owned));
        }
        if !listen.ip().is_unspecified() {
            hosts.push(host_of(listen));
        }
        let url = match &config.public_url {
            Some(text) => {
                let (url, host, is_https) = parse(text).ok_or_else(|| AddressError::PublicUrl(text.clone()))?;
                if is_encrypted && !is_https {
                    return Err(AddressError::Scheme(text.clone()));
                }
                hosts.push(host);
                url
            }
            None if listen.ip().is_unspecified() || !config.proxies.is_empty() => {
                return Err(AddressError::NoPublicUrl(listen));
            }
            None => {
                let scheme = if config.tls.is_some() { "https" } else { "http" };
                format!("{scheme}://{}:{}", host_of(listen), listen.port())
            }
        };
        hosts.sort();
        hosts.dedup();
        Ok(Self { url, hosts })
    }
}

fn host_of(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) => v4.ip().to_string(),
        SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
    }
}

/// The address without its slash, the host, and whether it is https.
fn parse(text: &str) -> Option<(String, String, bool)> {
    let uri: Uri = text.parse().ok()?;
    let is_https = match uri.scheme_str()? {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let authority = uri.authority()?;
    let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none() && !authority.as_str().contains('@');
    let is_whole = text.trim_end_matches('/') == format!("{}://{authority}", uri.scheme_str()?);
    if !is_bare || !is_whole {
        return None;
    }
    Some((text.trim_end_matches('/').to_owned(), authority.host().to_ascii_lowercase(), is_https))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CertificateFiles;

    fn with(change: impl FnOnce(&mut HttpConfig)) -> HttpConfig {
        let mut config = HttpConfig::default();
        change(&mut config);
        config
    }

    fn tls(config: &mut HttpConfig) {
        config.tls = Some(CertificateFiles { certificate: "a.pem".into(), key: "b.pem".into() });
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn loopback_needs_nothing() {
        let public = PublicAddress::of(&HttpConfig::default(), address("127.0.0.1:8080")).expect("permitted");
        assert_eq!(public.url, "http://127.0.0.1:8080");
        assert_eq!(public.hosts, ["127.0.0.1", "[::1]", "localhost"]);
        let public = PublicAddress::of(&HttpConfig::default(), address("[::1]:8080")).expect("permitted");
        assert_eq!(public.url, "http://[::1]:8080");
    }

    #[test]
    fn nobody_beyond_the_machine_is_served_without_https() {
        for open in ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:80"].map(address) {
            let refused = PublicAddress::of(&HttpConfig::default(), open);
            assert_eq!(refused, Err(AddressError::PlainOffLoopback(open)));
            let named = with(|config| config.public_url = Some("https://gridtally.example".into()));
            assert_eq!(PublicAddress::of(&named, open), Err(AddressError::PlainOffLoopback(open)));
        }
        let open = address("0.0.0.0:443");
        assert_eq!(PublicAddress::of(&with(tls), open), Err(AddressError::NoPublicUrl(open)));
        let public = PublicAddress::of(&with(tls), address("192.0.2.1:8443")).expect("permitted");
        assert_eq!((public.url.as_str(), public.hosts), ("https://192.0.2.1:8443", vec!["192.0.2.1".to_owned()]));
        let behind = with(|config| {
            config.proxies = vec!["10.0.0.2".into()];
            config.public_url = Some("https://Gridtally.example/".into());
        });
        let public = PublicAddress::of(&behind, open).expect("permitted");
        assert_eq!(public.url, "https://Gridtally.example");
        assert!(public.hosts.contains(&"gridtally.example".to_owned()), "{:?}", public.hosts);
    }

    #[test]
    fn a_public_url_is_an_address_and_no_more() {
        for bad in ["gridtally.example", "ftp://a", "https://a/path", "https://a/?q", "https://u:p@a", "https://", ""] {
            let config = with(|config| config.public_url = Some(bad.into()));
            let refused = PublicAddress::of(&config, address("127.0.0.1:80"));
            assert_eq!(refused, Err(AddressError::PublicUrl(bad.into())), "{bad}");
        }
        let plain = with(|config| {
            tls(config);
            config.public_url = Some("http://a".into());
        });
        assert_eq!(PublicAddress::of(&plain, address("127.0.0.1:80")), Err(AddressError::Scheme("http://a".into())));
    }
}
