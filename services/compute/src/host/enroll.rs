//! Enrolling: the agent's certificate. Its key never leaves the machine; the request for its
//! certificate comes over the channel that the machine is deployed by.

use std::sync::Arc;

use async_trait::async_trait;
use cairn_operation::{Ended, Handler, OperationContext, Queue};
use cairn_proto::{
    call::{Method, Rpc as _},
    compute::v1alpha1::{EnrollHostRequest, EnrollHostResponse, Host, HostCertificate},
    crud::{Check, Keyed as _},
    fault::Fault,
    meta::Resource,
};
use cairn_resource::now;
use cairn_types::{HostUuid, InvalidUuid};

use super::Hosts;

pub(super) struct Enroll(pub(super) Arc<Hosts>);

pub(super) struct Spec {
    host: HostUuid,
    certificate_request: String,
}

#[async_trait]
impl Handler for Enroll {
    type Request = EnrollHostRequest;
    type Response = EnrollHostResponse;
    type Spec = Spec;
    const METHOD: &'static Method = EnrollHostRequest::METHOD;

    fn check(&self, request: &EnrollHostRequest) -> Result<Spec, Fault> {
        let mut check = Check::default();
        request.check(&mut check);
        if !request
            .certificate_request
            .trim_start()
            .starts_with("-----BEGIN")
        {
            check.refuse("certificate_request", "is not a PKCS #10 request in PEM");
        }
        check.finish()?;
        let host = request
            .uuid
            .parse()
            .map_err(|e: InvalidUuid| Fault::field("uuid", e.to_string()))?;
        Ok(Spec {
            host,
            certificate_request: request.certificate_request.clone(),
        })
    }

    fn queue(&self, spec: &Spec) -> Queue {
        Queue::serial(Host::NOUN, &spec.host.to_string())
    }

    async fn run(
        &self,
        cx: &OperationContext,
        spec: Arc<Spec>,
    ) -> Result<Ended<HostCertificate>, Fault> {
        let signed = self.0.ca.sign_host(&spec.certificate_request, spec.host);
        let signed = signed.map_err(|error| {
            let mut fault = Fault::field("certificate_request", error.to_string());
            fault.causes = Fault::of(&error).causes;
            fault
        })?;
        let certificate = HostCertificate {
            certificate: signed.certificate_pem,
            ca_certificate: self.0.ca.pem().to_owned(),
            callback_addresses: self.0.callback_addresses.clone(),
        };
        let fingerprint = signed.fingerprint;
        cx.finish(move |tx| {
            let (spec, fingerprint) = (Arc::clone(&spec), fingerprint.clone());
            let certificate = certificate.clone();
            Box::pin(async move {
                let uuid = spec.host.to_string();
                let host = tx.get::<Host>(&uuid).await?;
                let mut host = host.ok_or_else(|| Fault::not_found(Host::NOUN, &uuid))?;
                host.certificate_fingerprint = fingerprint;
                host.stamp(now());
                tx.update(&host).await?;
                Ok(certificate)
            })
        })
        .await
    }
}
