// What the kernel takes to start and end any static program: `tare version` is compared with it.
int main(void) { return 0; }
