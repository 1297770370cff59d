//! Flows from an operator's directory: what they change, and how a mistake stops the start.

use cairn_e2e::Cloud;
use cairn_node::Node;
use cairn_proto::operation::v1alpha1::{
    GetOperationRequest, OperationClient, QueryOperationRequest,
};
use cairn_types::chain;

/// The creation of a virtual machine in which one step is another one: how an appliance is made.
const APPLIANCE: &str = "flow = 'create-vm-instance'\nextends = 'create-vm-instance'\n\n[[change]]\n\
    replace = 'create-on-hypervisor'\n\
    with = [{ step = 'create-on-hypervisor', name = 'create-appliance', timeout_secs = 60 }]\n\n\
    [[change]]\nreplace = 'instantiate-pre'\n\
    with = [{ group = 'prepare', steps = ['instantiate-pre'] }]\n\n\
    [[change]]\nreplace = 'instantiate-post'\nwith = [{ step = 'instantiate-post', run_if = { \
    message = 'cairn.compute.v1alpha1.VmInstance', field = 'name', is = 'router' } }]\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_flow_makes_virtual_machines() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("create-vm-instance.toml"), APPLIANCE).unwrap();
    let mut cloud = Cloud::prepare().await;
    cloud.flows = Some(directory.path().to_owned());
    cloud.start_node().await;
    let ready = cloud.ready(1).await;
    for name in ["router", "web"] {
        let vm = cloud.create_vm(&ready, name).await.unwrap();
        let steps = steps_of(&cloud, &vm.uuid).await;
        let mut expected = vec![
            (0, "prepare".to_owned()),
            (1, "instantiate-pre".to_owned()),
            (0, "create-appliance".to_owned()),
        ];
        if name == "router" {
            expected.push((0, "instantiate-post".to_owned()));
        }
        assert!(steps.ends_with(&expected), "{name}: {steps:?}");
    }
    cloud.assert_books(&ready, 2).await;
}

/// The steps of the creation of a virtual machine, and how deep each is.
async fn steps_of(cloud: &Cloud, vm: &str) -> Vec<(u32, String)> {
    let operations = OperationClient::new(cloud.mesh());
    let found = operations
        .query_operation(QueryOperationRequest::default())
        .await;
    let mut found = found.unwrap().operations.into_iter();
    let creation = found.find(|it| it.name == "CreateVmInstance" && it.resource_uuid == vm);
    let uuid = creation.unwrap().uuid;
    let shown = operations.get_operation(GetOperationRequest { uuid }).await;
    let steps = shown.unwrap().steps.into_iter();
    steps.map(|step| (step.depth, step.name)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mistake_in_a_flow_stops_the_start_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("create-vm-instance.toml");
    let mut cloud = Cloud::prepare().await;
    cloud.flows = Some(directory.path().to_owned());
    let check = async |text: &str, expected: &str| {
        std::fs::write(&file, text).unwrap();
        let error = Node::start(cloud.config()).await.err().unwrap();
        let text = chain(&error).to_string();
        assert!(text.contains(expected), "{expected} is not in: {text}");
    };
    let place = file.display().to_string();
    check(
        "flow = 'create-vm-instance'\nextends = 'create-vm-instance'\n[[change]]\n\
         replace = 'create-on-hypervisor'\nwith = ['create-appliance']\n",
        &format!(
            "{place}:5:9: flow create-vm-instance, step create-appliance: no service has registered \
             a step of that name"
        ),
    )
    .await;
    check(
        "flow = 'create-vm-instance'\nextends = 'create-vm-instance'\n[[change]]\n\
         remove = 'allocate-nic'\n",
        "step instantiate-pre: needs cairn.network.internal.v1alpha1.ListNicsResponse",
    )
    .await;
    check(
        "flow = 'create-vm-instance'\ninputs = ['cairn.compute.v1alpha1.Zone']\nsteps = []\n",
        "flow create-vm-instance takes cairn.compute.v1alpha1.Zone",
    )
    .await;
}
