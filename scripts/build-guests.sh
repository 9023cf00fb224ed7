#!/bin/sh
# Builds the samples and test guests that the tests and `make up` use, into target/guests:
#   *.wasm            WebAssembly components
#   hello-wasm/       the wasm sample as it is pushed: component and tutti.toml
#   hello-grpc/       the gRPC sample as it is pushed: program and tutti.toml
#   hello-wasm-grpc-rust/
#                     the gRPC sample as a component: its .proto, and 1.0/ and 1.1/ with component.wasm and tutti.toml
# The Python samples are built by build-python-guests.sh, since they need more tools.
# No binaries are checked in. Building again when nothing has changed takes a moment.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
guests=$root/target/guests
target=wasm32-wasip2

if ! rustc --print target-libdir --target "$target" >/dev/null 2>&1 ||
    [ ! -d "$(rustc --print target-libdir --target "$target")" ]; then
    echo "the Rust target $target is missing; add it with: rustup target add $target" >&2
    exit 1
fi

# Put in place whole, and only if it differs: a test that runs meanwhile sees the old or the new one.
place() {
    if ! cmp -s "$1" "$2"; then
        cp "$1" "$2.new.$$"
        mv "$2.new.$$" "$2"
    fi
}

# A target folder of their own, so that this never waits for a build of Tutti, nor the other way round.
component() {
    folder=$1
    name=$2
    shift 2
    cargo build --quiet --release --locked --target "$target" \
        --manifest-path "$root/$folder/Cargo.toml" --target-dir "$guests/build" "$@"
    place "$guests/build/$target/release/$name.wasm" "$guests/$name.wasm"
}

mkdir -p "$guests/hello-wasm" "$guests/hello-grpc"
component samples/hello-wasm hello_wasm
component crates/isolate-wasm/tests/guest hostile_guest
component crates/isolate-wasm/tests/grpc_guest grpc_guest
component crates/isolate-wasm/tests/wide_guest wide_guest
place "$guests/hello_wasm.wasm" "$guests/hello-wasm/hello_wasm.wasm"
place "$root/samples/hello-wasm/tutti.toml" "$guests/hello-wasm/tutti.toml"

# Two versions that differ in what they answer.
grpc=samples/hello-wasm-grpc-rust
mkdir -p "$guests/hello-wasm-grpc-rust/1.0" "$guests/hello-wasm-grpc-rust/1.1"
component $grpc hello_wasm_grpc
place "$guests/hello_wasm_grpc.wasm" "$guests/hello-wasm-grpc-rust/1.0/component.wasm"
component $grpc hello_wasm_grpc --features talkative
place "$guests/hello_wasm_grpc.wasm" "$guests/hello-wasm-grpc-rust/1.1/component.wasm"
for version in 1.0 1.1; do
    place "$root/$grpc/tutti.toml" "$guests/hello-wasm-grpc-rust/$version/tutti.toml"
done
place "$root/$grpc/proto/hello.proto" "$guests/hello-wasm-grpc-rust/hello.proto"

cargo build --quiet --locked --manifest-path "$root/samples/hello-grpc/Cargo.toml" --target-dir "$guests/build"
place "$guests/build/debug/hello-grpc" "$guests/hello-grpc/hello-grpc"
place "$root/samples/hello-grpc/tutti.toml" "$guests/hello-grpc/tutti.toml"
