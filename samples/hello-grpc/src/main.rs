//! A gRPC service that runs as a process: listens where `PORT` says, tells its health, and finishes its calls when it
//! is asked to stop.

mod service;

use service::{Hello, HelloWorld};
use std::{net::Ipv4Addr, process::ExitCode};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_stream::wrappers::TcpListenerStream;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hello-grpc: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::var("PORT").map_err(|_| "PORT is not set")?.parse()?;
    let version = ["VERSION", "TUTTI_VERSION"]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .unwrap_or_else(|| "none".to_owned());
    // Before anything is promised: a signal that comes now must not end the process half way.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    println!("hello-grpc version {version} listens on {}", listener.local_addr()?);

    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<HelloWorld>().await;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        println!("hello-grpc stops: finishing what it serves");
        health.set_not_serving::<HelloWorld>().await;
        health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    };
    tonic::transport::Server::builder()
        .add_service(health_service)
        .add_service(HelloWorld::new(Hello::new(&version)?))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop)
        .await?;
    println!("hello-grpc has stopped");
    Ok(())
}
