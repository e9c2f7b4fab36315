//! The head-end over real sockets: every guard of the listener, the order and the meaning of acknowledgements, commands down,
//! HTTP and TLS.

mod acknowledge;
mod connect;
mod down;
mod gateway;
mod http;
mod limits;
mod publish;
mod support;
mod text;
mod tls;
