//! The service `Faults`, on a listener of its own.

use std::sync::Arc;

use proto::v1;
use proto::v1::faults_server::{Faults, FaultsServer};
use tonic::{Request, Response, Status};

use super::{Control, Refused};

/// The service.
pub struct Service(pub Arc<Control>);

/// As tonic serves it.
pub fn server(control: Arc<Control>) -> FaultsServer<Service> {
    FaultsServer::new(Service(control))
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
        self.0.start(request.into_inner()).await?;
        Ok(Response::new(self.0.told()))
    }

    async fn renew_faults(&self, request: Request<v1::RenewFaultsRequest>) -> Answer {
        self.0.renew(request.get_ref())?;
        Ok(Response::new(self.0.told()))
    }

    async fn end_faults(&self, request: Request<v1::EndFaultsRequest>) -> Answer {
        self.0.end(request.get_ref());
        Ok(Response::new(self.0.told()))
    }

    async fn get_faults(&self, _: Request<v1::GetFaultsRequest>) -> Answer {
        Ok(Response::new(self.0.told()))
    }
}
