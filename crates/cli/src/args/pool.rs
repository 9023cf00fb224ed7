//! `tutti pool`.

use clap::{Args, Subcommand};
use tutti_model::{
    Millis, Problem,
    pool::PoolName,
    quantity::{Bandwidth, ByteSize, MilliCpu},
    scheduling::{LabelKey, LabelValue, Taint, label},
    version::Isolate,
};

/// `tutti pool`
#[derive(Debug, Clone, Subcommand)]
pub enum PoolCommand {
    /// Create a pool, or change what is asked of it
    ///
    /// The commands that make and remove its machines are in the tutti.toml of each control, as [pool.NAME] with make
    /// and remove. What is not named here stays as it is.
    Set(Box<PoolArgs>),
    /// Show every pool
    List,
    /// Show one pool with its machines
    Show {
        /// Its name
        pool: PoolName,
    },
    /// Remove a pool: its machines drain and are removed, then it is gone
    Remove {
        /// Its name
        pool: PoolName,
    },
}

/// `tutti pool set`
#[derive(Debug, Clone, Args)]
pub struct PoolArgs {
    /// Its name
    pub pool: PoolName,
    /// Fewest machines, kept though nothing needs them
    #[arg(long, value_name = "N")]
    pub min: Option<u32>,
    /// Most machines
    #[arg(long, value_name = "N")]
    pub max: Option<u32>,
    /// Cpu of one machine, such as 2
    #[arg(long, value_name = "CPU")]
    pub cpu: Option<MilliCpu>,
    /// Memory of one machine, such as 4Gi
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<ByteSize>,
    /// Bandwidth of one machine, such as 1Gbit
    #[arg(long, value_name = "RATE")]
    pub bandwidth: Option<Bandwidth>,
    /// Disk of one machine, such as 50Gi
    #[arg(long, value_name = "SIZE")]
    pub disk: Option<ByteSize>,
    /// What its machines can run, with commas: wasm, process [default for a new pool: all]
    #[arg(long, value_name = "ISOLATE,…", value_delimiter = ',')]
    pub isolates: Vec<Isolate>,
    /// A label of its nodes, KEY=VALUE or KEY; those that are given replace those it has
    #[arg(long = "label", value_name = "LABEL", value_parser = parse_label)]
    pub labels: Vec<(LabelKey, LabelValue)>,
    /// A taint of its nodes, KEY[=VALUE]:NoSchedule or :NoExecute; those that are given replace those it has
    #[arg(long = "taint", value_name = "TAINT")]
    pub taints: Vec<Taint>,
    /// How long a machine must not have been needed before it is removed, such as 10m
    #[arg(long, value_name = "TIME")]
    pub idle: Option<Millis>,
}

fn parse_label(text: &str) -> Result<(LabelKey, LabelValue), Problem> {
    label(text)
}
