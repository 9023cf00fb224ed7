//! Flags of `tutti backup`, `tutti restore` and `tutti store recovery-key`.

use super::{common::Given, effective};
use crate::{
    backup::{Backup, Restore},
    settings::Effective,
};
use clap::Args;
use std::path::PathBuf;
use tutti_model::Problem;

/// Where the state of a cloud is.
#[derive(Debug, Args)]
pub(crate) struct StateArgs {
    /// Folder of all that is kept [env: TUTTI_DATA_DIR]
    #[arg(long, value_name = "PATH")]
    data_dir: Option<String>,
    /// Where state is kept, as for tutti server [env: TUTTI_STORE] [default: in the data folder]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// The cluster's key: FILE or exec:CMD [env: TUTTI_KEY] [default: in the configuration folder]
    #[arg(long, value_name = "FILE|exec:CMD")]
    key: Option<String>,
    /// Where to read settings from [default: tutti.toml here, if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl StateArgs {
    /// The effective settings of this command.
    ///
    /// # Errors
    /// Every fault in every source.
    pub(crate) fn effective(&self) -> Result<Effective, Vec<Problem>> {
        self.with(&None)
    }

    fn with(&self, blobs: &Option<String>) -> Result<Effective, Vec<Problem>> {
        let given: [Given<'_>; 4] =
            [("data_dir", &self.data_dir), ("store", &self.store), ("key", &self.key), ("blobs", blobs)];
        effective(&[&given], self.config.as_ref())
    }
}

/// `tutti backup`.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The file to write, which is not there yet; - for standard output
    #[arg(value_name = "FILE")]
    file: String,
    #[command(flatten)]
    of: StateArgs,
    /// Put the artifacts that the state refers to into the file, too
    #[arg(long)]
    artifacts: bool,
    /// Where they are, as for tutti server [env: TUTTI_BLOBS] [default: in the data folder]
    #[arg(long, value_name = "PATH|shared:PATH|s3://BUCKET")]
    blobs: Option<String>,
}

impl BackupArgs {
    /// The effective settings of this command.
    ///
    /// # Errors
    /// Every fault in every source.
    pub(crate) fn effective(&self) -> Result<Effective, Vec<Problem>> {
        self.of.with(&self.blobs)
    }

    /// What was asked.
    pub(crate) fn asked(&self, print_json: bool) -> Backup {
        Backup { file: self.file.clone(), artifacts: self.artifacts, print_json }
    }
}

/// `tutti restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The backup; - for standard input
    #[arg(value_name = "FILE")]
    file: String,
    #[command(flatten)]
    of: StateArgs,
    /// Where artifacts are to be, as for tutti server [env: TUTTI_BLOBS] [default: in the data folder]
    #[arg(long, value_name = "PATH|shared:PATH|s3://BUCKET")]
    blobs: Option<String>,
    /// File with the recovery key, - for standard input: the cluster's key is then put where --key says
    #[arg(long, value_name = "FILE")]
    recovery_key_file: Option<String>,
    /// Only read the backup and see that it is whole
    #[arg(long)]
    check: bool,
}

impl RestoreArgs {
    /// The effective settings of this command.
    ///
    /// # Errors
    /// Every fault in every source.
    pub(crate) fn effective(&self) -> Result<Effective, Vec<Problem>> {
        self.of.with(&self.blobs)
    }

    /// What was asked.
    pub(crate) fn asked(&self, print_json: bool) -> Restore {
        Restore {
            file: self.file.clone(),
            recovery_key: self.recovery_key_file.clone(),
            check: self.check,
            print_json,
        }
    }
}
