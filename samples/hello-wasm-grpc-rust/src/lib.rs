//! com.example.HelloWorld: the component. What it answers is in `service.rs`.

mod service;

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "hello-world-server", generate_all });
}

pub(crate) use bindings::com::example::com_example_types as types;
pub(crate) use bindings::tutti::grpc::call::{Code, Context, MetadataValue, Status};

struct Component;

bindings::export!(Component with_types_in bindings);

impl bindings::exports::com::example::hello_world::Guest for Component {
    fn say_hello(ctx: &Context, request: types::HelloRequest) -> Result<types::HelloResponse, Status> {
        // Which version has answered, for whoever looks at the reply's metadata.
        let version = std::env::var("VERSION").or_else(|_| std::env::var("TUTTI_VERSION"));
        let version = MetadataValue::Text(version.unwrap_or_else(|_| "dev".to_owned()));
        ctx.add_header("sample-version", &version).map_err(|message| Status {
            code: Code::Internal,
            message,
            details: Vec::new(),
        })?;
        service::say_hello(request)
    }
}
