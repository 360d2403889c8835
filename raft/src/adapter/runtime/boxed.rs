//! openraft's channels, of boxes.
//!
//! tokio takes room for 32 messages when a channel is made, and keeps up to three such blocks once
//! they were needed. Of openraft's messages, a few hundred bytes each, these are tens of KiB for a
//! group that rests. Of boxes they are some hundred bytes, and what has been taken out is given back.

use std::future::Future;

use openraft::rt::{Mpsc, MpscReceiver, MpscSender, MpscWeakSender, SendError, TryRecvError};
use tokio::sync::mpsc;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Boxed;

/// Sends boxes.
#[derive(Debug)]
pub(crate) struct Sender<T>(mpsc::Sender<Box<T>>);

/// Gives what is in them.
#[derive(Debug)]
pub(crate) struct Receiver<T>(mpsc::Receiver<Box<T>>);

/// Keeps nothing open.
#[derive(Debug)]
pub(crate) struct WeakSender<T>(mpsc::WeakSender<Box<T>>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender(self.0.clone())
    }
}

impl<T> Clone for WeakSender<T> {
    fn clone(&self) -> Self {
        WeakSender(self.0.clone())
    }
}

impl Mpsc for Boxed {
    type Sender<T: Send> = Sender<T>;
    type Receiver<T: Send> = Receiver<T>;
    type WeakSender<T: Send> = WeakSender<T>;

    fn channel<T: Send>(buffer: usize) -> (Sender<T>, Receiver<T>) {
        let (sender, receiver) = mpsc::channel(buffer);
        (Sender(sender), Receiver(receiver))
    }
}

impl<T: Send> MpscSender<Boxed, T> for Sender<T> {
    fn send(&self, message: T) -> impl Future<Output = Result<(), SendError<T>>> + Send {
        // Boxed at once, so that no future of openraft's holds a message.
        let sent = self.0.send(Box::new(message));
        async move { sent.await.map_err(|refused| SendError(*refused.0)) }
    }

    fn downgrade(&self) -> WeakSender<T> {
        WeakSender(self.0.downgrade())
    }
}

impl<T: Send> MpscReceiver<T> for Receiver<T> {
    async fn recv(&mut self) -> Option<T> {
        self.0.recv().await.map(|message| *message)
    }

    fn try_recv(&mut self) -> Result<T, TryRecvError> {
        match self.0.try_recv() {
            Ok(message) => Ok(*message),
            Err(mpsc::error::TryRecvError::Empty) => Err(TryRecvError::Empty),
            Err(mpsc::error::TryRecvError::Disconnected) => Err(TryRecvError::Disconnected),
        }
    }
}

impl<T: Send> MpscWeakSender<Boxed, T> for WeakSender<T> {
    fn upgrade(&self) -> Option<Sender<T>> {
        self.0.upgrade().map(Sender)
    }
}
