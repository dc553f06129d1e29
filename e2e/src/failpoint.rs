//! The coordinator of failpoints: whoever comes to one asks it, and the test says what happens there.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use pgexport_failpoint::{Answer, Hit};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::lab::Lab;
use crate::namespace::Namespace;
use crate::network::inside_network;

/// Holds those who come to the failpoints that a test waits for; all others go on.
pub struct Coordinator {
    address: SocketAddr,
    waits: Arc<Waits>,
    server: JoinHandle<()>,
}

type Waits = Mutex<Vec<Wait>>;

/// Something that a test waits for.
struct Wait {
    name: String,
    is_it: Box<dyn Fn(&Hit) -> bool + Send>,
    held: oneshot::Sender<Held>,
}

/// A process that is held at a failpoint. It goes on when this is dropped.
#[derive(Debug)]
pub struct Held {
    /// Where, and who.
    pub hit: Hit,
    stream: TcpStream,
}

/// What becomes of one who is waited for.
#[derive(Debug)]
pub struct Awaited {
    name: String,
    held: oneshot::Receiver<Held>,
}

impl Coordinator {
    /// For processes of this machine.
    pub async fn local() -> Self {
        Self::serve(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("an address"))
    }

    /// For the pods of the lab: at the address of the peers, in the cluster's own network where it has one.
    pub async fn for_pods(lab: &Lab) -> Self {
        let address = lab.peers.postgres.pod.ip();
        // A socket stays in the network that it was made in.
        Self::serve(
            inside_network(move || TcpListener::bind((address, 0))).expect("an address that pods reach"),
        )
    }

    fn serve(listener: TcpListener) -> Self {
        listener.set_nonblocking(true).expect("a listener that does not block");
        let address = listener.local_addr().expect("its address");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        let waits: Arc<Waits> = Arc::default();
        let shared = Arc::clone(&waits);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(receive(stream, Arc::clone(&shared)));
            }
        });
        Self { address, waits, server }
    }

    /// What the processes' variable has to say.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Waits, from now on, for the next one who comes to the failpoint `name` and of whom `is_it` holds.
    #[must_use]
    pub fn at(&self, name: &str, is_it: impl Fn(&Hit) -> bool + Send + 'static) -> Awaited {
        let (sender, held) = oneshot::channel();
        let wait = Wait { name: name.to_owned(), is_it: Box::new(is_it), held: sender };
        self.waits.lock().unwrap_or_else(PoisonError::into_inner).push(wait);
        Awaited { name: name.to_owned(), held }
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Takes the word of one who has come to a failpoint. To close the connection is to let it go on.
async fn receive(stream: TcpStream, waits: Arc<Waits>) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    if stream.read_line(&mut line).await.is_err() {
        return;
    }
    let Ok(hit) = serde_json::from_str::<Hit>(&line) else { return };
    let wait = {
        let mut waits = waits.lock().unwrap_or_else(PoisonError::into_inner);
        waits.retain(|wait| !wait.held.is_closed());
        let found = waits.iter().position(|wait| wait.name == hit.name && (wait.is_it)(&hit));
        found.map(|index| waits.remove(index))
    };
    if let Some(wait) = wait {
        let _ = wait.held.send(Held { hit, stream: stream.into_inner() });
    }
}

impl Awaited {
    /// The one who came, or nothing when nobody did.
    pub async fn within(self, patience: Duration) -> Option<Held> {
        tokio::time::timeout(patience, self.held).await.ok()?.ok()
    }

    /// The one who came. Panics, with what led there, when nobody did.
    pub async fn held(self, namespace: &Namespace<'_>, patience: Duration) -> Held {
        let name = self.name.clone();
        match self.within(patience).await {
            Some(held) => held,
            None => {
                namespace.describe().await;
                panic!("nobody came to {name} within {patience:?}");
            }
        }
    }
}

impl Held {
    /// Lets it go on.
    pub async fn go(self) {
        self.answer(Answer::Go).await;
    }

    /// Lets it die at once, as by SIGKILL.
    pub async fn die(self) {
        self.answer(Answer::Die).await;
    }

    /// Whether it is the worker of this pod.
    #[must_use]
    pub fn is_in(&self, pod: &Pod) -> bool {
        // The pods of an Indexed Job have a host name of their own, which two of one index share.
        let host = pod.spec.as_ref().and_then(|spec| spec.hostname.clone()).unwrap_or_else(|| pod.name_any());
        host == self.hit.host
    }

    async fn answer(mut self, answer: Answer) {
        // One that is gone is told nothing.
        let _ = self.stream.write_all(format!("{}\n", answer.as_str()).as_bytes()).await;
    }
}
