//! gRPC server reflection, one message at a time: what a client asks about descriptors, and what it is told.
//!
//! Versions `v1` and `v1alpha` have the same messages under different names, so one codec serves both. Streams are their
//! callers' business: the wasm driver answers from a component's descriptors, and an ingress asks the services that share
//! a host.

use prost::Message;
use prost_reflect::DescriptorPool;

/// The services that answer reflection, newest first; each has the one method `ServerReflectionInfo`.
pub const SERVICES: [&str; 2] =
    ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];
/// Their method.
pub const METHOD: &str = "ServerReflectionInfo";
/// Longest request, in bytes: it is a name.
pub const REQUEST_BYTES: usize = 16 * 1024;
/// gRPC's NOT_FOUND.
const NOT_FOUND: i32 = 5;
/// gRPC's INVALID_ARGUMENT.
const INVALID_ARGUMENT: i32 = 3;

/// What a client asks.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// The host that it means; given back as it is.
    #[prost(string, tag = "1")]
    pub host: String,
    /// What it wants to know.
    #[prost(oneof = "Question", tags = "3, 4, 5, 6, 7")]
    pub question: Option<Question>,
}

/// What there is to ask.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Question {
    /// The file of this name.
    #[prost(string, tag = "3")]
    File(String),
    /// The file that declares this.
    #[prost(string, tag = "4")]
    Symbol(String),
    /// The file that declares this extension.
    #[prost(message, tag = "5")]
    Extension(Extension),
    /// The numbers of all extensions of this message.
    #[prost(string, tag = "6")]
    Extensions(String),
    /// All services; the text means nothing.
    #[prost(string, tag = "7")]
    Services(String),
}

/// An extension, by its number.
#[derive(Clone, PartialEq, Message)]
pub struct Extension {
    /// The message that is extended.
    #[prost(string, tag = "1")]
    pub message: String,
    /// The field's number.
    #[prost(int32, tag = "2")]
    pub number: i32,
}

/// What a client is told.
#[derive(Clone, PartialEq, Message)]
pub struct Response {
    /// The host of the request.
    #[prost(string, tag = "1")]
    pub host: String,
    /// The request.
    #[prost(message, optional, tag = "2")]
    pub request: Option<Request>,
    /// What it is told.
    #[prost(oneof = "Answer", tags = "4, 5, 6, 7")]
    pub answer: Option<Answer>,
}

/// What there is to tell.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Answer {
    /// Serialized `FileDescriptorProto`s.
    #[prost(message, tag = "4")]
    Files(Files),
    /// Numbers of extensions.
    #[prost(message, tag = "5")]
    Extensions(Extensions),
    /// Services.
    #[prost(message, tag = "6")]
    Services(Services),
    /// It is not known.
    #[prost(message, tag = "7")]
    Failure(Failure),
}

/// Descriptors.
#[derive(Clone, PartialEq, Message)]
pub struct Files {
    /// Each a serialized `FileDescriptorProto`.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub files: Vec<Vec<u8>>,
}

/// Extensions of one message.
#[derive(Clone, PartialEq, Message)]
pub struct Extensions {
    /// The message.
    #[prost(string, tag = "1")]
    pub message: String,
    /// Their numbers.
    #[prost(int32, repeated, tag = "2")]
    pub numbers: Vec<i32>,
}

/// All services.
#[derive(Clone, PartialEq, Message)]
pub struct Services {
    /// One each.
    #[prost(message, repeated, tag = "1")]
    pub services: Vec<Service>,
}

/// One service.
#[derive(Clone, PartialEq, Message)]
pub struct Service {
    /// Full name, `com.example.HelloWorld`.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// Why there is no answer.
#[derive(Clone, PartialEq, Message)]
pub struct Failure {
    /// gRPC's code.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// One sentence.
    #[prost(string, tag = "2")]
    pub message: String,
}

impl Request {
    /// The response with this answer.
    #[must_use]
    pub fn answered(self, answer: Answer) -> Response {
        Response { host: self.host.clone(), request: Some(self), answer: Some(answer) }
    }
}

impl Answer {
    /// All services, of these names.
    #[must_use]
    pub fn services(names: impl IntoIterator<Item = String>) -> Answer {
        Answer::Services(Services { services: names.into_iter().map(|name| Service { name }).collect() })
    }

    /// What is asked for is not there.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Answer {
        Answer::failure(NOT_FOUND, message)
    }

    /// No answer, with gRPC's code and why.
    #[must_use]
    pub fn failure(code: i32, message: impl Into<String>) -> Answer {
        Answer::Failure(Failure { code, message: message.into() })
    }

    /// Whether it says that what is asked for is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Answer::Failure(failure) if failure.code == NOT_FOUND)
    }
}

/// Answers one request about one service from its descriptors. Files come one at a time, as they are asked for.
#[must_use]
pub fn answer(pool: &DescriptorPool, service: &str, request: Request) -> Response {
    let answer = match &request.question {
        Some(Question::Services(_)) => Answer::services([service.to_owned()]),
        Some(Question::File(name)) => file(pool.get_file_by_name(name), "file", name),
        Some(Question::Symbol(symbol)) => {
            file(file_of(pool, symbol.strip_prefix('.').unwrap_or(symbol)), "symbol", symbol)
        }
        Some(Question::Extension(extension)) => {
            let found = pool.get_message_by_name(&extension.message).and_then(|message| {
                message.get_extension(u32::try_from(extension.number).ok()?).map(|found| found.parent_file())
            });
            file(found, "extension of", &extension.message)
        }
        Some(Question::Extensions(name)) => match pool.get_message_by_name(name) {
            Some(message) => {
                let numbers = message.extensions().filter_map(|found| i32::try_from(found.number()).ok());
                Answer::Extensions(Extensions { message: name.clone(), numbers: numbers.collect() })
            }
            None => missing("message", name),
        },
        None => Answer::Failure(Failure {
            code: INVALID_ARGUMENT,
            message: "the request asks for nothing".to_owned(),
        }),
    };
    request.answered(answer)
}

/// [`answer`] on encoded messages.
///
/// # Errors
/// Bytes that are no request.
pub fn answer_encoded(pool: &DescriptorPool, service: &str, request: &[u8]) -> Result<Vec<u8>, Malformed> {
    Ok(encode(&answer(pool, service, decode(request)?)))
}

/// Reads an encoded request.
///
/// # Errors
/// Bytes that are none.
pub fn decode(request: &[u8]) -> Result<Request, Malformed> {
    Request::decode(request).map_err(|_| Malformed)
}

/// Writes a response.
#[must_use]
pub fn encode(response: &Response) -> Vec<u8> {
    response.encode_to_vec()
}

/// Reads the answer of an encoded response; `None` for what has none.
#[must_use]
pub fn answer_of(response: &[u8]) -> Option<Answer> {
    Response::decode(response).ok()?.answer
}

/// Bytes that are no reflection request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a reflection request")]
pub struct Malformed;

fn file(file: Option<prost_reflect::FileDescriptor>, what: &str, name: &str) -> Answer {
    match file {
        Some(file) => Answer::Files(Files { files: vec![file.encode_to_vec()] }),
        None => missing(what, name),
    }
}

fn missing(what: &str, name: &str) -> Answer {
    let name: String = name.chars().take(200).flat_map(char::escape_debug).collect();
    Answer::not_found(format!("there is no {what} \"{name}\" among the service's descriptors"))
}

/// The file that declares a service, method, message, field, oneof, enum, enum value or extension.
fn file_of(pool: &DescriptorPool, symbol: &str) -> Option<prost_reflect::FileDescriptor> {
    let whole = |name: &str| {
        pool.get_service_by_name(name)
            .map(|found| found.parent_file())
            .or_else(|| pool.get_message_by_name(name).map(|found| found.parent_file()))
            .or_else(|| pool.get_enum_by_name(name).map(|found| found.parent_file()))
            .or_else(|| pool.get_extension_by_name(name).map(|found| found.parent_file()))
    };
    if let Some(found) = whole(symbol) {
        return Some(found);
    }
    let (parent, name) = symbol.rsplit_once('.')?;
    let service = pool.get_service_by_name(parent);
    let message = pool.get_message_by_name(parent);
    let one = pool.get_enum_by_name(parent);
    let in_service = service.filter(|service| service.methods().any(|method| method.name() == name));
    let in_message = message.filter(|message| {
        message.get_field_by_name(name).is_some() || message.oneofs().any(|oneof| oneof.name() == name)
    });
    let in_enum = one.filter(|one| one.get_value_by_name(name).is_some());
    in_service
        .map(|found| found.parent_file())
        .or_else(|| in_message.map(|found| found.parent_file()))
        .or_else(|| in_enum.map(|found| found.parent_file()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::compile;
    use crate::stored;
    use prost_reflect::prost_types::FileDescriptorProto;

    fn ask(question: Question) -> Answer {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/json");
        let compiled = compile(&[format!("{folder}/library.proto")], &[folder.to_owned()]).unwrap();
        let pool = stored::open(&compiled.set).unwrap();
        let request = Request { host: "h".to_owned(), question: Some(question) };
        let bytes = request.encode_to_vec();
        let response = answer(&pool, "test.library.Library", Request::decode(bytes.as_slice()).unwrap());
        assert_eq!(response.request, Some(request));
        Response::decode(response.encode_to_vec().as_slice()).unwrap().answer.unwrap()
    }

    fn file_name(answer: &Answer) -> Option<String> {
        let Answer::Files(files) = answer else { return None };
        FileDescriptorProto::decode(files.files[0].as_slice()).unwrap().name
    }

    #[test]
    fn what_is_declared_is_found_with_its_options() {
        for symbol in [
            "test.library.Library",
            ".test.library.Library",
            "test.library.Library.GetBook",
            "test.library.Book",
            "test.library.Book.cover",
            "test.library.Book.authors",
            "test.library.Kind",
        ] {
            let answer = ask(Question::Symbol(symbol.to_owned()));
            assert_eq!(file_name(&answer).as_deref(), Some("library.proto"), "{symbol}");
        }
        let answer = ask(Question::Symbol("google.api.http".to_owned()));
        assert_eq!(file_name(&answer).as_deref(), Some("google/api/annotations.proto"));
        let answer = ask(Question::File("library.proto".to_owned()));
        let Answer::Files(files) = &answer else { panic!("{answer:?}") };
        let template = b"/v1/{name=shelves/*/books/*}";
        assert!(files.files[0].windows(template.len()).any(|bytes| bytes == template), "its option is gone");
        let extension = Extension { message: "google.protobuf.MethodOptions".to_owned(), number: 72_295_728 };
        let answer = ask(Question::Extension(extension));
        assert_eq!(file_name(&answer).as_deref(), Some("google/api/annotations.proto"));
        let Answer::Extensions(found) = ask(Question::Extensions("google.protobuf.MethodOptions".to_owned()))
        else {
            panic!()
        };
        assert_eq!(found.numbers, [72_295_728]);
    }

    #[test]
    fn what_is_not_declared_is_not_found() {
        for question in [
            Question::Symbol("test.library.Nothing".to_owned()),
            Question::Symbol("test.library.Library.Nothing".to_owned()),
            Question::Symbol(String::new()),
            Question::File("nothing.proto".to_owned()),
            Question::Extension(Extension { message: "test.library.Book".to_owned(), number: -1 }),
            Question::Extensions("nothing".to_owned()),
        ] {
            assert!(ask(question.clone()).is_not_found(), "{question:?}");
        }
        assert_eq!(
            ask(Question::Services(String::new())),
            Answer::services(["test.library.Library".to_owned()])
        );
    }
}
