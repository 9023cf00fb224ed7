//! What com.example.HelloWorld answers: true for whoever gave a name, and from version 1.1 on for everyone.

use crate::{Code, Status, types};

/// Longest name that is listened to, in bytes.
const NAME_BYTES: usize = 1024;

/// One request, one reply.
pub fn say_hello(request: types::HelloRequest) -> Result<types::HelloResponse, Status> {
    if request.name.len() > NAME_BYTES {
        let message = format!("the name is longer than {NAME_BYTES} bytes");
        return Err(Status { code: Code::InvalidArgument, message, details: Vec::new() });
    }
    let talk_to_me = cfg!(feature = "talkative") || !request.name.is_empty();
    println!("asked by {:?}", request.name);
    Ok(types::HelloResponse { talk_to_me })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &str) -> Result<bool, Code> {
        let request = types::HelloRequest { name: name.to_owned() };
        say_hello(request).map(|reply| reply.talk_to_me).map_err(|status| status.code)
    }

    #[test]
    fn talks_to_whoever_gave_a_name() {
        assert_eq!(asked("Ada"), Ok(true));
        assert_eq!(asked(""), Ok(cfg!(feature = "talkative")));
    }

    #[test]
    fn a_long_name_is_refused() {
        assert_eq!(asked(&"x".repeat(NAME_BYTES + 1)), Err(Code::InvalidArgument));
    }
}
