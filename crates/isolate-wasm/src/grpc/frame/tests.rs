use super::*;
use proptest::prelude::*;
use tutti_base::body;

fn messages(bytes: Vec<u8>, encoding: Encoding, most: usize) -> Messages {
    Messages::new(body::full(bytes), encoding, most, None)
}

#[tokio::test]
async fn a_compressed_message_says_how_it_is_compressed() {
    let mut all = messages(vec![1, 0, 0, 0, 0], Encoding::Identity, 10);
    assert_eq!(all.next().await.unwrap_err().code, Code::Internal);
    let mut all = messages(vec![1, 0, 0, 0, 1, b'x'], Encoding::Gzip, 10);
    assert_eq!(all.next().await.unwrap_err().code, Code::Internal);
}

#[tokio::test]
async fn the_longest_message_passes_and_a_longer_one_does_not() {
    let mut all = messages(vec![0, 0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 3], Encoding::Identity, 2);
    assert_eq!(all.next().await.unwrap().unwrap(), &[7, 8][..]);
    assert_eq!(all.next().await.unwrap_err().code, Code::ResourceExhausted);
}

proptest! {
    #[test]
    fn what_is_framed_is_read_again(sent in prop::collection::vec(prop::collection::vec(0..4_u8, 0..600), 0..5)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for encoding in [Encoding::Identity, Encoding::Gzip] {
            let mut bytes = Vec::new();
            for message in &sent {
                let mut frame = begin();
                frame.extend(message);
                bytes.extend(finish(frame, encoding));
            }
            let mut all = messages(bytes, encoding, 600);
            for message in &sent {
                let read = runtime.block_on(all.next()).unwrap().unwrap();
                prop_assert_eq!(&read[..], &message[..]);
            }
            prop_assert!(runtime.block_on(all.next()).unwrap().is_none());
        }
    }
}
