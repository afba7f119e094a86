// SPDX-License-Identifier: GPL-2.0
// Holds a driver's module as long as it is loaded itself, as a user does that is no module.
#include <linux/module.h>
#include <linux/pci.h>

static char *driver = "";
module_param(driver, charp, 0444);

static struct module *held;

static int __init holder_init(void)
{
	struct device_driver *found = driver_find(driver, &pci_bus_type);

	if (!found || !try_module_get(found->owner))
		return -ENODEV;
	held = found->owner;
	return 0;
}

static void __exit holder_exit(void)
{
	module_put(held);
}

module_init(holder_init);
module_exit(holder_exit);
MODULE_DESCRIPTION("Holds a driver's module");
MODULE_LICENSE("GPL");
