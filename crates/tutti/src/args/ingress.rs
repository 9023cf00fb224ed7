//! Flags of `tutti ingress`.

use super::{common::RoleArgs, effective};
use crate::settings::Effective;
use clap::Args;
use tutti_model::Problem;

/// `tutti ingress`. A flag wins over its variable, and that over `tutti.toml`.
#[derive(Debug, Args)]
#[command(after_help = "\
It serves by the tables that it last got, also when it is started again while control is away. It ends at SIGTERM or \
SIGINT, once the requests it serves have ended. Of instances in tutti dev's own process it reaches none: that has an \
ingress of its own.")]
pub(crate) struct IngressArgs {
    /// Where control is reached [env: TUTTI_INGRESS_CONTROL] [default: control.sock in the data folder of tutti dev]
    #[arg(long, value_name = "unix:/PATH")]
    control: Option<String>,
    /// Folder of all that is kept [env: TUTTI_INGRESS_DATA_DIR]
    #[arg(long, value_name = "PATH")]
    data_dir: Option<String>,
    /// Folder of this machine's key and certificate, if it is a member of a cluster [env: TUTTI_MEMBER_DIR]
    #[arg(long, value_name = "PATH")]
    member_dir: Option<String>,
    /// Address that clients come to, HTTP/1.1 and HTTP/2; :0 picks a free port [env: TUTTI_INGRESS_HTTP] [default: 127.0.0.1:8081, of a cluster's member 0.0.0.0:80]
    #[arg(long, value_name = "ADDR:PORT")]
    http: Option<String>,
    /// Addresses that names lead to, if clients reach it by others than it listens on [env: TUTTI_INGRESS_PUBLIC]
    #[arg(long, value_name = "ADDR,…")]
    public: Option<String>,
    /// Where its owner may ask what it routes by [env: TUTTI_INGRESS_SOCKET] [default: ingress.sock in the data folder]
    #[arg(long, value_name = "unix:/PATH")]
    socket: Option<String>,
    /// What this ingress is called [env: TUTTI_INGRESS_NAME] [default: the host's name and -ingress]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    role: RoleArgs,
}

impl IngressArgs {
    /// The effective settings of this command.
    ///
    /// # Errors
    /// Every fault in every source.
    pub(crate) fn effective(&self) -> Result<Effective, Vec<Problem>> {
        let given = [
            ("ingress.control", &self.control),
            ("ingress.data_dir", &self.data_dir),
            ("ingress.http", &self.http),
            ("ingress.public", &self.public),
            ("ingress.socket", &self.socket),
            ("member_dir", &self.member_dir),
            ("ingress.name", &self.name),
        ];
        effective(&[&given, &self.role.given()], self.role.config.as_ref())
    }
}
