//! Measures what the ingress costs: CPU microseconds per proxied request, of its own process only.
//!
//! ```text
//! cargo run --release -p tutti-ingress --example cpu_per_request -- [SECONDS] [CONNECTIONS] [http1|grpc]
//! ```
//!
//! The hello upstream and the clients are further processes of this program, so that their work is not counted. With
//! `serve UPSTREAM` it is only an ingress before that address, for a load generator of another kind.

use futures_util::StreamExt as _;
use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use std::{
    error::Error,
    io::{BufRead as _, BufReader, Lines},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::net::TcpListener;
use tutti_api::{
    WatchEvent, WatchStream, ZoneApi,
    zone::{HeartbeatAnswer, IngressReport, InstanceReport, NodeHeartbeat},
};
use tutti_base::{Body, Random, SystemClock, Tasks, body};
use tutti_ingress::{Ingress, IngressOptions};
use tutti_model::{
    InstanceId, Millis, Problem, Resource, Share, Timestamp, Uid,
    instance::InstanceSpec,
    name::NodeName,
    node::{NodeSpec, NodeStatus},
    table::{Backend, Endpoint, TableSpec, VersionBackend},
};
use tutti_proxy::{ConnInfo, Hop, HopError, HopTarget, Limits, Pool, PoolOptions, Protocol, Timeouts, serve};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// A zone with one table for ever.
#[derive(Debug)]
struct OneTable(TableSpec);

#[async_trait::async_trait]
impl ZoneApi for OneTable {
    fn watch_tables(&self, _: Option<u64>) -> WatchStream<TableSpec> {
        let table =
            Resource::new(self.0.service.to_string(), Uid::from_bits(1), Timestamp(0), self.0.clone());
        let first =
            [WatchEvent::Init, WatchEvent::InitItem(Box::new(table)), WatchEvent::InitDone { revision: 1 }];
        futures_util::stream::iter(first.map(Ok)).chain(futures_util::stream::pending()).boxed()
    }

    fn watch_instances(&self, _: &NodeName, _: Option<u64>) -> WatchStream<InstanceSpec> {
        futures_util::stream::pending().boxed()
    }

    fn watch_node(&self, _: &NodeName, _: Option<u64>) -> WatchStream<NodeSpec> {
        futures_util::stream::pending().boxed()
    }

    fn watch_nodes(&self, _: Option<u64>) -> WatchStream<NodeSpec> {
        let none = [WatchEvent::Init, WatchEvent::InitDone { revision: 1 }];
        futures_util::stream::iter(none.map(Ok)).chain(futures_util::stream::pending()).boxed()
    }

    async fn register_node(&self, _: &NodeName, _: NodeStatus) -> Result<(), Problem> {
        Ok(())
    }

    async fn heartbeat(&self, _: &NodeName, _: NodeHeartbeat) -> Result<HeartbeatAnswer, Problem> {
        Ok(HeartbeatAnswer::default())
    }

    async fn report_instances(&self, _: &NodeName, _: Vec<InstanceReport>) -> Result<(), Problem> {
        Ok(())
    }

    async fn instance_secrets(
        &self,
        _: &NodeName,
        _: &tutti_model::InstanceId,
    ) -> Result<tutti_base::SecretValues, Problem> {
        Ok(tutti_base::SecretValues::default())
    }

    async fn report_ingress(&self, _: IngressReport) -> Result<(), Problem> {
        Ok(())
    }

    async fn leave_ingress(&self, _: &str) -> Result<(), Problem> {
        Ok(())
    }
}

/// The shortest way to an instance: straight over the pool.
#[derive(Debug)]
struct Straight(Pool, SocketAddr);

#[async_trait::async_trait]
impl Hop for Straight {
    async fn send(
        &self,
        _: &NodeName,
        _: &HopTarget,
        request: Request<Body>,
    ) -> Result<Response<Body>, HopError> {
        let protocol = Protocol::of(request.headers());
        let sent = self.0.send(self.1, protocol, request, &Timeouts::default()).await;
        sent.map_err(|error| HopError::Failed(error.chain()))
    }
}

async fn hello(request: Request<Body>, _: ConnInfo) -> Response<Body> {
    let mut response = Response::new(body::full("hello, world\n"));
    let kind =
        if Protocol::of(request.headers()) == Protocol::Http2 { "application/grpc" } else { "text/plain" };
    response.headers_mut().insert("content-type", HeaderValue::from_static(kind));
    response
}

async fn serve_upstream() -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    serve(listener, hello, Limits::default(), &Tasks::new()).await;
    Ok(())
}

async fn ingress(upstream: SocketAddr) -> Outcome<(Arc<Ingress>, Tasks)> {
    let version = VersionBackend {
        version: "1.0".parse()?,
        weight: Share::WHOLE,
        concurrency: 1000,
        timeout: Millis::seconds(30),
        endpoints: vec![Endpoint { instance: InstanceId::from_bits(1), node: "node".parse()? }],
    };
    let table = TableSpec {
        service: "example.com:hello".parse()?,
        matches: vec!["*".parse()?],
        backend: Backend::Versions(vec![version]),
    };
    let options = IngressOptions {
        name: "bench".into(),
        http: TcpListener::bind("127.0.0.1:0").await?,
        public: Vec::new(),
        hop: Arc::new(Straight(Pool::new(PoolOptions::default()), upstream)),
        nodes: Arc::default(),
        zone: Arc::new(OneTable(table)),
        clock: Arc::new(SystemClock),
        random: Random::from_os(),
        snapshot: None,
        limits: Limits::default(),
    };
    let (ingress, tasks) = (Arc::new(Ingress::new(options)?), Tasks::new());
    let (running, until) = (Arc::clone(&ingress), tasks.clone());
    tokio::spawn(async move { running.run(&until).await });
    while ingress.reached() == 0 {
        tokio::task::yield_now().await;
    }
    Ok((ingress, tasks))
}

/// Asks over so many connections for so long; prints how many were answered.
async fn load(address: SocketAddr, seconds: u64, connections: usize, grpc: bool) -> Outcome<()> {
    let done = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + Duration::from_secs(seconds);
    let pool = Pool::new(PoolOptions::default());
    let protocol = if grpc { Protocol::Http2 } else { Protocol::Http1 };
    let clients: Vec<_> = (0..connections)
        .map(|_| {
            let (pool, done) = (pool.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                while Instant::now() < end {
                    let mut request = Request::new(body::empty());
                    request.headers_mut().insert("host", HeaderValue::from_static("bench.test"));
                    if grpc {
                        request
                            .headers_mut()
                            .insert("content-type", HeaderValue::from_static("application/grpc"));
                    }
                    let response = pool.send(address, protocol, request, &Timeouts::default()).await;
                    let response = response.map_err(|error| error.chain())?;
                    if response.status() != 200 {
                        return Err(format!("answered {}", response.status()).into());
                    }
                    response.into_body().collect().await?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Outcome::Ok(())
            })
        })
        .collect();
    for client in clients {
        client.await??;
    }
    println!("{}", done.load(Ordering::Relaxed));
    Ok(())
}

/// CPU that this process has used, user and system.
fn cpu() -> Outcome<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    // Fields 14 and 15 of proc(5), in ticks of a hundredth of a second.
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

fn child(arguments: &[String]) -> Outcome<(Child, Lines<BufReader<ChildStdout>>)> {
    let mut child = Command::new(std::env::current_exe()?).args(arguments).stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    Ok((child, lines))
}

async fn measure(seconds: u64, connections: usize, grpc: bool) -> Outcome<()> {
    let (mut upstream, mut lines) = child(&["upstream".to_owned()])?;
    let address: SocketAddr = lines.next().ok_or("the upstream said nothing")??.parse()?;
    let (ingress, tasks) = ingress(address).await?;
    let arguments = [
        "load".to_owned(),
        ingress.address().to_string(),
        seconds.to_string(),
        connections.to_string(),
        grpc.to_string(),
    ];
    let before = cpu()?;
    let counted = tokio::task::spawn_blocking(move || -> Outcome<u64> {
        let (mut load, mut lines) = child(&arguments)?;
        let counted = lines.next().ok_or("the load failed")??.parse()?;
        load.wait()?;
        Ok(counted)
    })
    .await??;
    let used = cpu()? - before;
    let micros = used.as_micros() / u128::from(counted.max(1));
    println!(
        "{counted} requests in {seconds} s over {connections} connections: {} a second, {micros} us of cpu each",
        counted / seconds.max(1)
    );
    tasks.stop();
    upstream.kill()?;
    upstream.wait()?;
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let at = |at: usize| arguments.get(at).map(String::as_str);
    match at(0) {
        Some("upstream") => serve_upstream().await,
        Some("load") => {
            let argument = |place: usize| at(place).ok_or("an argument is missing");
            load(argument(1)?.parse()?, argument(2)?.parse()?, argument(3)?.parse()?, argument(4)? == "true")
                .await
        }
        Some("serve") => {
            let (ingress, tasks) =
                ingress(at(1).ok_or("serve needs the upstream's address")?.parse()?).await?;
            println!("{}", ingress.address());
            tokio::signal::ctrl_c().await?;
            tasks.stop();
            Ok(())
        }
        seconds => {
            let seconds = seconds.map_or(Ok(5), str::parse)?;
            let connections = at(1).map_or(Ok(32), str::parse)?;
            measure(seconds, connections, at(2) == Some("grpc")).await
        }
    }
}
