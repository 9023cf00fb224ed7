//! Flags that several commands have.

use clap::Args;
use std::path::PathBuf;

/// A setting, and what its flag says.
pub(super) type Given<'a> = (&'static str, &'a Option<String>);

/// Of every role.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// Where to read settings from [default: tutti.toml here, if there is one]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// What is logged, in tracing's filter syntax [env: TUTTI_LOG] [default: warn,tutti=info]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// How it is logged: text or json [env: TUTTI_LOG_FORMAT] [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl LogArgs {
    pub(super) const fn given(&self) -> [Given<'_>; 2] {
        [("log", &self.log), ("log_format", &self.log_format)]
    }
}

/// Of every role that notices of changes go to.
#[derive(Debug, Args)]
pub(crate) struct RoleArgs {
    /// Where to read settings from [default: tutti.toml here, if there is one]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// NATS for notices of changes: nats://HOST:PORT[,HOST:PORT…], or tls://… [env: TUTTI_NOTICES] [default: none, watches alone]
    #[arg(long, value_name = "URL")]
    notices: Option<String>,
    /// What NATS knows this role by: a file of its own making, or with USER:PASSWORD or a token [env: TUTTI_NOTICES_CREDENTIALS]
    #[arg(long, value_name = "FILE")]
    notices_credentials: Option<String>,
    /// Certificates to trust beside this machine's when NATS is reached [env: TUTTI_NOTICES_CA]
    #[arg(long, value_name = "FILE")]
    notices_ca: Option<String>,
    /// What is logged, in tracing's filter syntax [env: TUTTI_LOG] [default: warn,tutti=info]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// How it is logged: text or json [env: TUTTI_LOG_FORMAT] [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl RoleArgs {
    pub(super) const fn given(&self) -> [Given<'_>; 5] {
        [
            ("notices", &self.notices),
            ("notices_credentials", &self.notices_credentials),
            ("notices_ca", &self.notices_ca),
            ("log", &self.log),
            ("log_format", &self.log_format),
        ]
    }
}

/// Of whatever runs control.
#[derive(Debug, Args)]
pub(crate) struct ControlArgs {
    /// Folder of all that is kept [env: TUTTI_DATA_DIR]
    #[arg(long, value_name = "PATH")]
    data_dir: Option<String>,
    /// Address of API and registry; :0 picks a free port [env: TUTTI_LISTEN_API] [default: 127.0.0.1:7070, of tutti server 0.0.0.0:7070]
    #[arg(long, value_name = "ADDR:PORT")]
    api: Option<String>,
    /// Where state is kept: sqlite:PATH, etcd://HOST:PORT[,HOST:PORT…] or postgres://USER@HOST/DATABASE [env: TUTTI_STORE] [default: in the data folder]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Where artifacts are kept: PATH, shared:PATH for a folder that is the same on every control, or s3://BUCKET[/PREFIX] [env: TUTTI_BLOBS] [default: in the data folder]
    #[arg(long, value_name = "PATH")]
    blobs: Option<String>,
    /// Server of such a bucket; its keys are in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY [env: TUTTI_S3_ENDPOINT, AWS_ENDPOINT_URL] [default: Amazon's of the region]
    #[arg(long, value_name = "URL")]
    s3_endpoint: Option<String>,
    /// Region of such a bucket [env: TUTTI_S3_REGION, AWS_REGION] [default: us-east-1]
    #[arg(long, value_name = "REGION")]
    s3_region: Option<String>,
    /// Where roles on this machine reach control [env: TUTTI_SOCKET] [default: control.sock in the data folder]
    #[arg(long, value_name = "unix:/PATH")]
    socket: Option<String>,
    /// Name of this machine [env: TUTTI_NODE] [default: the host's name]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Key that secrets and a cluster's authorities are sealed with: FILE or exec:CMD [env: TUTTI_KEY] [default: in the configuration folder]
    #[arg(long, value_name = "FILE|exec:CMD")]
    key: Option<String>,
    /// Services answer at SERVICE.DOMAIN.SUFFIX [env: TUTTI_HOST_SUFFIX] [default: localhost]
    #[arg(long, value_name = "SUFFIX")]
    host_suffix: Option<String>,
    /// Whether a domain that an admin creates needs no proof by DNS: true or false [env: TUTTI_VOUCH] [default: true, of tutti server false]
    #[arg(long, value_name = "BOOL")]
    vouch: Option<String>,
    /// Name server that such proofs are looked up at [env: TUTTI_RESOLVER] [default: this machine's]
    #[arg(long, value_name = "ADDR:PORT")]
    resolver: Option<String>,
}

impl ControlArgs {
    pub(super) const fn given(&self) -> [Given<'_>; 12] {
        [
            ("data_dir", &self.data_dir),
            ("api", &self.api),
            ("store", &self.store),
            ("blobs", &self.blobs),
            ("s3.endpoint", &self.s3_endpoint),
            ("s3.region", &self.s3_region),
            ("socket", &self.socket),
            ("node", &self.node),
            ("key", &self.key),
            ("host_suffix", &self.host_suffix),
            ("vouch", &self.vouch),
            ("resolver", &self.resolver),
        ]
    }
}
