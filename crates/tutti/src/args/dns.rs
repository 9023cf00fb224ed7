//! Flags of `tutti dns`.

use super::{common::LogArgs, effective};
use crate::settings::Effective;
use clap::Args;
use tutti_model::Problem;

/// `tutti dns`. A flag wins over its variable, and that over `tutti.toml`.
#[derive(Debug, Args)]
#[command(after_help = "\
It answers by what control last said, also when it is started again while control is away. Names \
at and below the host suffix, and those given with --names, lead to the ingresses that live.")]
pub(crate) struct DnsArgs {
    /// Where control is reached [env: TUTTI_DNS_CONTROL] [default: control.sock in the data folder of tutti dev]
    #[arg(long, value_name = "unix:/PATH")]
    control: Option<String>,
    /// Folder of all that is kept [env: TUTTI_DNS_DATA_DIR]
    #[arg(long, value_name = "PATH")]
    data_dir: Option<String>,
    /// Folder of this machine's key and certificate, if it is a member of a cluster [env: TUTTI_MEMBER_DIR]
    #[arg(long, value_name = "PATH")]
    member_dir: Option<String>,
    /// Address that questions come to, UDP and TCP; :0 picks a free port [env: TUTTI_DNS_LISTEN] [default: 127.0.0.1:5353, of a cluster's member 0.0.0.0:53]
    #[arg(long = "dns", value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// Where its owner may ask what it answers by [env: TUTTI_DNS_SOCKET] [default: dns.sock in the data folder]
    #[arg(long, value_name = "unix:/PATH")]
    socket: Option<String>,
    /// What this server is called [env: TUTTI_DNS_NAME] [default: the host's name and -dns]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Services answer at SERVICE.DOMAIN.SUFFIX, as control is told [env: TUTTI_HOST_SUFFIX] [default: localhost]
    #[arg(long, value_name = "SUFFIX")]
    host_suffix: Option<String>,
    /// Further names that lead to the cluster, with commas between [env: TUTTI_DNS_NAMES]
    #[arg(long, value_name = "NAME,…")]
    names: Option<String>,
    /// The name servers of all these, the first of which is the primary [env: TUTTI_DNS_NAME_SERVERS] [default: ns.SUFFIX, this one]
    #[arg(long, value_name = "NAME=ADDR,…")]
    name_servers: Option<String>,
    #[command(flatten)]
    log: LogArgs,
}

impl DnsArgs {
    /// The effective settings of this command.
    ///
    /// # Errors
    /// Every fault in every source.
    pub(crate) fn effective(&self) -> Result<Effective, Vec<Problem>> {
        let given = [
            ("dns.control", &self.control),
            ("dns.data_dir", &self.data_dir),
            ("member_dir", &self.member_dir),
            ("dns.listen", &self.listen),
            ("dns.socket", &self.socket),
            ("dns.name", &self.name),
            ("host_suffix", &self.host_suffix),
            ("dns.names", &self.names),
            ("dns.name_servers", &self.name_servers),
        ];
        effective(&[&given, &self.log.given()], self.log.config.as_ref())
    }
}
