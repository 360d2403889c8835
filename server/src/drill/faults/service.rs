//! The service `Faults`, on a listener of its own.

use std::sync::Arc;

use proto::v1;
use proto::v1::faults_server::{Faults, FaultsServer};
use tonic::{Request, Response, Status};

use super::{Control, Refused};
use crate::access::Asks;

/// The service.
pub struct Service(pub Arc<Control>);

/// As tonic serves it.
pub fn server(control: Arc<Control>) -> FaultsServer<Service> {
    FaultsServer::new(Service(control))
}

impl Service {
    /// Whether the caller of a method is let in: this listener is not that of the node.
    fn let_in<T>(&self, method: &str, request: &Request<T>) -> Result<(), Status> {
        let headers = request.metadata().clone().into_headers();
        self.0.doors().enter(Asks {
            path: &format!("/firebreak.v1.Faults/{method}"),
            headers: &headers,
            from: request.remote_addr().map(|address| address.ip()),
            local: false,
        })?;
        Ok(())
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Status {
        match refused {
            Refused::Bad(why) => Status::invalid_argument(why),
            Refused::Not(why) => Status::failed_precondition(why),
            Refused::Gone(why) => Status::not_found(why),
        }
    }
}

type Answer = Result<Response<v1::GetFaultsResponse>, Status>;

#[tonic::async_trait]
impl Faults for Service {
    async fn start_faults(&self, request: Request<v1::StartFaultsRequest>) -> Answer {
        self.let_in("StartFaults", &request)?;
        self.0.start(request.into_inner()).await?;
        Ok(Response::new(self.0.told()))
    }

    async fn renew_faults(&self, request: Request<v1::RenewFaultsRequest>) -> Answer {
        self.let_in("RenewFaults", &request)?;
        self.0.renew(request.get_ref())?;
        Ok(Response::new(self.0.told()))
    }

    async fn end_faults(&self, request: Request<v1::EndFaultsRequest>) -> Answer {
        self.let_in("EndFaults", &request)?;
        self.0.end(request.get_ref());
        Ok(Response::new(self.0.told()))
    }

    async fn get_faults(&self, request: Request<v1::GetFaultsRequest>) -> Answer {
        self.let_in("GetFaults", &request)?;
        Ok(Response::new(self.0.told()))
    }
}
