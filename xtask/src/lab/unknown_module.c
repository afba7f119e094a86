// A module that no NIC family knows, on top of the RDMA stack.
#include <linux/module.h>
#include <rdma/ib_verbs.h>

static int lab_add(struct ib_device *device)
{
	return 0;
}

static void lab_remove(struct ib_device *device, void *data)
{
}

static struct ib_client lab_client = { .name = "lab", .add = lab_add, .remove = lab_remove };

static int __init lab_init(void)
{
	return ib_register_client(&lab_client);
}

static void __exit lab_exit(void)
{
	ib_unregister_client(&lab_client);
}

module_init(lab_init);
module_exit(lab_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("A client of RDMA devices that does nothing");
