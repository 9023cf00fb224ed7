//! `tutti bindgen` and `tutti new`: what a developer needs to write a component for a service. No cloud is asked.

use crate::{
    api::Api,
    args::{BindgenArgs, NewArgs},
    bindings,
    exit::Failed,
    project,
    ui::Ui,
};
use serde::Serialize;
use tutti_proto::wit;

/// What was written.
#[derive(Serialize)]
struct Written {
    service: String,
    world: String,
    files: Vec<File>,
}

#[derive(Serialize)]
struct File {
    path: String,
    changed: bool,
}

/// `tutti bindgen`
pub(super) fn bindgen(args: &BindgenArgs, ui: &Ui) -> Result<(), Failed> {
    let api = Api::read(&args.api.proto, &args.api.proto_path).map_err(Failed::Faults)?;
    let service = api.service(args.api.service.as_deref())?;
    let files = wit::generate(&api.schema, &api.docs(), service);
    let steps = bindings::plan(&args.out, service, files).map_err(Failed::Faults)?;
    bindings::write(&steps)?;
    let written = Written {
        service: service.name.clone(),
        world: service.wit_world.clone(),
        files: steps
            .iter()
            .map(|step| File { path: step.path.display().to_string(), changed: !step.unchanged })
            .collect(),
    };
    ui.result(&written, || {
        let mut out = format!("world {} of {}\n", written.world, written.service);
        for file in &written.files {
            out.push_str(&format!("  {} {}\n", if file.changed { "wrote" } else { "as it was:" }, file.path));
        }
        out
    })
}

/// What was made.
#[derive(Serialize)]
struct Made {
    service: String,
    folder: String,
    files: Vec<String>,
}

/// `tutti new`
pub(super) fn new(args: &NewArgs, ui: &Ui) -> Result<(), Failed> {
    let api = Api::read(&args.api.proto, &args.api.proto_path).map_err(Failed::Faults)?;
    let service = api.service(args.api.service.as_deref())?;
    let name = project::name(&args.folder)?;
    let files = project::files(args.lang, &name, &api, service)?;
    project::write(&args.folder, &files)?;
    let made = Made {
        service: service.name.clone(),
        folder: args.folder.display().to_string(),
        files: files.into_iter().map(|file| file.path).collect(),
    };
    ui.result(&made, || {
        let mut out = format!("made {} for {}\n", made.folder, made.service);
        for file in &made.files {
            out.push_str(&format!("  {file}\n"));
        }
        out.push_str(&format!("next: cd {} && make test && make\n", made.folder));
        out
    })
}
