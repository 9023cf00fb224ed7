//! Commands that start from a `.proto`.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Which service of which `.proto`.
#[derive(Debug, Clone, Args)]
pub struct ApiArgs {
    /// File that declares the service
    #[arg(value_name = "API.proto")]
    pub proto: PathBuf,
    /// Folder that imports are looked up in; may be given several times [default: the file's own folder]
    #[arg(long, value_name = "DIR")]
    pub proto_path: Vec<PathBuf>,
    /// Which of the file's services, if it has several, such as com.example.HelloWorld
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
}

/// `tutti bindgen`
#[derive(Debug, Clone, Args)]
pub struct BindgenArgs {
    /// The service.
    #[command(flatten)]
    pub api: ApiArgs,
    /// Folder for the WIT package; files there that bindgen did not write are left alone
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// `tutti new`
#[derive(Debug, Clone, Args)]
pub struct NewArgs {
    /// What it is written in
    #[arg(long, value_enum, value_name = "LANGUAGE")]
    pub lang: Language,
    /// The service.
    #[command(flatten)]
    pub api: ApiArgs,
    /// Folder to make; its last part is the project's name
    #[arg(value_name = "NAME")]
    pub folder: PathBuf,
}

/// A language that a project can be made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// cargo and wit-bindgen, for wasm32-wasip2
    Rust,
    /// componentize-py
    Python,
}
