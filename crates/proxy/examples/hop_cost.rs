//! Measures what the hop over the wire costs beside the call: CPU microseconds per request of both of its ends together,
//! which run in this process, and the time of one request.
//!
//! ```text
//! cargo run --release -p tutti-proxy --example hop_cost -- [SECONDS] [CONCURRENCY]
//! ```

use async_trait::async_trait;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tutti_base::{Body, Random, Tasks, body};
use tutti_model::{InstanceId, name::NodeName, node::RoleAddress};
use tutti_proxy::{
    Hop, HopError, HopTarget,
    wire::{NodeBook, Sockets, WireHop, serve},
};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Debug)]
struct Hello;

#[async_trait]
impl Hop for Hello {
    async fn send(&self, _: &NodeName, _: &HopTarget, _: Request<Body>) -> Result<Response<Body>, HopError> {
        Ok(Response::new(body::full("hello")))
    }
}

/// CPU that this process has used, user and system.
fn cpu() -> Outcome<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default();
    // Fields 14 and 15 of proc(5), in ticks of a hundredth of a second.
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

async fn load(name: &str, hop: Arc<dyn Hop>, seconds: u64, concurrency: u64) -> Outcome<()> {
    let node: NodeName = "n1".parse()?;
    let target = HopTarget {
        service: "example.com:web".parse()?,
        version: "1.0".parse()?,
        instance: InstanceId::from_bits(1),
    };
    let answered = Arc::new(AtomicU64::new(0));
    let (before, began) = (cpu()?, Instant::now());
    let until = began + Duration::from_secs(seconds);
    let mut clients = tokio::task::JoinSet::<Outcome<()>>::new();
    for _ in 0..concurrency {
        let (hop, node, target) = (Arc::clone(&hop), node.clone(), target.clone());
        let answered = Arc::clone(&answered);
        clients.spawn(async move {
            while Instant::now() < until {
                let request = Request::get("/hello")
                    .header("host", "web.example.com")
                    .header("user-agent", "curl/8.5.0")
                    .header("accept", "*/*")
                    .header("x-forwarded-for", "192.0.2.1")
                    .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
                    .body(body::empty())?;
                let response = hop.send(&node, &target, request).await.map_err(|error| error.to_string())?;
                response.into_body().collect().await?;
                answered.fetch_add(1, Ordering::Relaxed);
                // A call never waits; without this no other client would have its turn.
                tokio::task::yield_now().await;
            }
            Ok(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    let (used, count) = (cpu()? - before, answered.load(Ordering::Relaxed).max(1));
    let each = |whole: Duration| whole.as_nanos() as f64 / 1000.0 / count as f64;
    println!(
        "{name}: {count} requests in {seconds} s, {concurrency} at once: {:.1} us of cpu each, {:.1} us long each",
        each(used),
        each(began.elapsed()) * concurrency as f64
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(Ok(3), |text| text.parse())?;
    let concurrency = arguments.next().map_or(Ok(32), |text| text.parse())?;
    let folder = std::env::temp_dir().join(format!("tutti-hop-cost-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("n1.sock");
    let (listener, tasks) = (tutti_base::socket::listen(&path).await?, Tasks::new());
    let others: tutti_proxy::wire::Others = Arc::new(|_| Box::pin(async { Response::new(body::empty()) }));
    tokio::spawn(serve(listener, Arc::new(Hello), "n1".parse()?, others, tasks.clone()));
    let book = Arc::new(NodeBook::default());
    book.set(&"n1".parse()?, Some(RoleAddress::Socket(path)));
    load("by a call", Arc::new(Hello), seconds, concurrency).await?;
    let wire = Arc::new(WireHop::new(book, Arc::new(Sockets), Random::from_os()));
    load("over the wire", wire, seconds, concurrency).await?;
    tasks.stop();
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
