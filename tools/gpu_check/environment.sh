# Sourced with `root` set to the folder of an unpacked bundle: tells its programs where to find each other. It uses only
# builtins, because tests start programs without a PATH.
export ISTHMUS_SOURCE_FOLDER=$root ISTHMUS_PROGRAM=$root/bin/isthmus ISTHMUS_MPIRUN=$root/bin/mpirun
export OPAL_PREFIX=$root/openmpi OPAL_BINDIR=$root/bin OPAL_PKGDATADIR=$root/openmpi/share OPAL_SYSCONFDIR=$root/openmpi/etc
export OPAL_PKGLIBDIR=$root/openmpi/modules OMPI_MCA_mca_base_component_path=$root/openmpi/modules
export PMIX_INSTALL_PREFIX=$root/openmpi PMIX_PKGLIBDIR=$root/openmpi/pmix
export PMIX_MCA_mca_base_component_path=$root/openmpi/pmix
export HWLOC_PLUGINS_PATH=$root/openmpi
# The programs run on one machine: with shared memory, and no search for fast networks or for ways to start processes
# elsewhere.
export OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,vader OMPI_MCA_plm=isolated
# Colours would be in the way of reading the tests' results.
export GTEST_COLOR=no
# Containers often forbid one process to read another's memory.
export OMPI_MCA_btl_vader_single_copy_mechanism=none
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
