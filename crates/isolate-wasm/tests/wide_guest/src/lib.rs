//! A component that gives every message back.

wit_bindgen::generate!({ path: "wit", world: "wide-server", generate_all });

use exports::wide::test::wide::{
    Context, Guest, KnownTypes, ListTypes, MapTypes, NestedTypes, OldTypes, OneofTypes, OptionalTypes,
    ScalarTypes, Status, Tree,
};

struct Wide;

export!(Wide);

/// Functions that give back what they are given.
macro_rules! echo {
    ($($function:ident: $message:ty),* $(,)?) => {
        impl Guest for Wide {
            $(fn $function(_: &Context, request: $message) -> Result<$message, Status> {
                Ok(request)
            })*
        }
    };
}

echo! {
    scalars: ScalarTypes,
    optionals: OptionalTypes,
    lists: ListTypes,
    maps: MapTypes,
    oneofs: OneofTypes,
    nested: NestedTypes,
    recursive: Tree,
    known: KnownTypes,
    old: OldTypes,
}
