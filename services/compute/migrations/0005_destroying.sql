-- How a virtual machine was when its destruction began: whether it holds something of its host, and
-- whether it was deleted before. It goes when the virtual machine is gone, or set aside.
CREATE TABLE vm_instance_destroying (
    vm_instance_uuid TEXT NOT NULL PRIMARY KEY,
    state TEXT NOT NULL
);
