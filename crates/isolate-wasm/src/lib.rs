//! WebAssembly components of wasi:http; the only owner of the wasm engine
