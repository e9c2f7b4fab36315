//! Serves the pages over a small seeded neighbourhood, for looking at them while changing them:
//! `cargo run -p web --example preview [PORT]`, then open the printed address. Not part of the product.
#![allow(clippy::print_stdout)]

#[path = "../tests/it/world.rs"]
mod world;

use store::{OneTime, Role};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args().nth(1).map_or(Ok(8_090), |port| port.parse())?;
    let dir = tempfile::tempdir()?;
    let store = world::open(dir.path()).await;
    world::user(&store, "anna", Role::Operator, None).await;
    world::user(&store, "ben", Role::Engineer, None).await;
    world::seed(&store, &world::Size { transformers: 4, homes: 10, days: 7 }).await;
    world::user(&store, "carla", Role::Consumer, Some(world::point(1, 1))).await;
    let base = format!("http://127.0.0.1:{port}");
    for name in ["anna", "ben", "carla"] {
        let token = store.create_one_time(&OneTime::SignIn(name.to_owned()), world::NOW.plus(3_600)).await?;
        println!("{name}: {base}/sign-in?token={token}");
    }
    let (state, _status) = world::state_over(store, &base);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    axum::serve(listener, web::router(state, axum::Router::new())).await?;
    Ok(())
}
